// Web shells: a page that lets a visitor run commands on the server.

rule php_eval_request {
    meta:
        description = "PHP that evaluates a request's parameter"
        action = "quarantine"
    strings:
        $open = "<?php"
        $eval = /\beval\s*\(\s*(stripslashes\s*\(\s*)?\$_(POST|GET|REQUEST|COOKIE)\s*\[/
    condition:
        filesize < 500KB and $open in (0..1024) and $eval
}

rule php_packed_eval {
    meta:
        description = "PHP that evaluates its own packed text"
        action = "quarantine"
    strings:
        $open = "<?php"
        $packed = /eval\s*\(\s*gzinflate\s*\(\s*(str_rot13\s*\(\s*)?base64_decode\s*\(/
    condition:
        filesize < 2MB and $open in (0..1024) and $packed
}

rule php_command_gate {
    meta:
        description = "PHP that passes a parameter to the shell"
        action = "quarantine"
    strings:
        $open = "<?php"
        $run = /\b(passthru|shell_exec|system|popen)\s*\(\s*\$_(POST|GET|REQUEST)\s*\[/
    condition:
        filesize < 500KB and $open in (0..1024) and $run
}

rule jsp_runtime_exec {
    meta:
        description = "JSP page that runs a request's parameter"
        action = "quarantine"
    strings:
        $page = "<%@ page" nocase
        $exec = /Runtime\.getRuntime\(\)\.exec\(\s*request\.getParameter\(/
    condition:
        filesize < 500KB and all of them
}

rule aspx_process_start {
    meta:
        description = "ASP.NET page that starts a program which the visitor names"
        action = "quarantine"
    strings:
        $page = "<%@ Page" nocase
        $start = "ProcessStartInfo" nocase
        $command = /Arguments\s*=\s*"\/c\s*"\s*\+\s*Request/ nocase
    condition:
        filesize < 500KB and all of them
}

rule php_upload_gate {
    meta:
        description = "PHP page that takes any file into its own directory, behind a fixed password hash"
        action = "quarantine"
    strings:
        $open = "<?php"
        $password = /md5\(\s*\$_(POST|GET|COOKIE)\[[^\]]{1,20}\]\s*\)\s*={2,3}\s*["'][0-9a-f]{32}/
        $move = /move_uploaded_file\(\s*\$_FILES/
    condition:
        filesize < 500KB and $open in (0..1024) and $password and $move
}
