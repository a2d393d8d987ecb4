// Reverse shells: a command line handed to whoever waits at the other end.

rule shell_over_dev_tcp {
    meta:
        description = "Shell whose input and output go through /dev/tcp"
        action = "quarantine"
    strings:
        $interactive = /\b(ba|z|k)?sh\s+-i\b/
        $socket = /[<>]&?\s*\/dev\/(tcp|udp)\/[0-9a-z.\-]{4,60}\/[0-9]{2,5}/
    condition:
        filesize < 200KB and all of them
}

rule python_socket_shell {
    meta:
        description = "Python that ties a shell to a socket"
        action = "quarantine"
    strings:
        $connect = /\.connect\(\(/
        $dup = /os\.dup2\(\s*[a-z_]{1,10}\.fileno\(\)\s*,\s*[012]\s*\)/
        $spawn = /(pty\.spawn|subprocess\.(call|run|Popen))\(\s*\[?\s*["']\/bin\/(ba)?sh/
    condition:
        filesize < 200KB and $connect and #dup >= 2 and $spawn
}

rule perl_socket_shell {
    meta:
        description = "Perl that ties a shell to a socket"
        action = "quarantine"
    strings:
        $socket = /socket\(\s*[A-Z]{1,8}\s*,\s*PF_INET/
        $reopen = /open\(STD(IN|OUT|ERR)\s*,\s*["'][<>]&[A-Z]{1,8}/
        $exec = /exec\s*\(?\s*["'{]+\s*\/bin\/(ba)?sh\s+-i/
    condition:
        filesize < 200KB and $socket and #reopen >= 2 and $exec
}

rule fifo_netcat_shell {
    meta:
        description = "Shell and netcat joined by a named pipe"
        action = "quarantine"
    strings:
        $fifo = /mkfifo\s+\/tmp\/[a-z0-9._]{1,20}/
        $shell = /\|\s*\/bin\/(ba)?sh\s+-i\s+2>&1/
        $netcat = /\|\s*(nc|ncat|netcat)\s+[0-9a-z.\-]{4,60}\s+[0-9]{2,5}/
    condition:
        filesize < 200KB and all of them
}

rule php_socket_shell {
    meta:
        description = "PHP that ties a shell to a socket"
        action = "quarantine"
    strings:
        $socket = /fsockopen\(\s*["'][0-9a-z.\-]{4,60}["']\s*,\s*[0-9]{2,5}/
        $open = /proc_open\(\s*["']\/bin\/(ba)?sh\s+-i/
    condition:
        filesize < 200KB and all of them
}

rule socat_terminal_shell {
    meta:
        description = "socat that offers a terminal to another host"
        action = "quarantine"
    strings:
        $exec = /socat\s+exec:["']?(\/bin\/)?(ba)?sh\s+-li["']?,pty,stderr/ nocase
        $connect = /\btcp4?:[0-9a-z.\-]{4,60}:[0-9]{2,5}/ nocase
    condition:
        filesize < 200KB and all of them
}
