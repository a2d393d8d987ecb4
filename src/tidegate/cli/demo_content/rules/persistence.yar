// What stays: implants that come back after a restart, or let someone in again.

rule cron_fetches_script {
    meta:
        description = "Cron line that pipes a download into a shell"
        action = "quarantine"
    strings:
        $line = /(^|\n)(@reboot|[*\/0-9,\-]{1,12}(\s+[*\/0-9,\-]{1,12}){4})\s+(root\s+)?(curl|wget)\s[^\n|]{8,200}\|\s*(ba)?sh\b/
    condition:
        filesize < 100KB and $line
}

rule ssh_key_implant {
    meta:
        description = "Script that adds a key of its own to authorized_keys and hides the change"
        action = "quarantine"
    strings:
        $key = /echo\s+["']?ssh-(rsa|ed25519)\s+AAAA[A-Za-z0-9+\/]{20}/
        $append = />>\s*[^\s]{0,60}\.ssh\/authorized_keys/
        $hide = /(chattr\s+\+i|touch\s+-r)\s/
    condition:
        filesize < 200KB and all of them
}

rule unit_starts_from_tmp {
    meta:
        description = "systemd unit that starts a program from a directory which anybody can write"
        action = "quarantine"
    strings:
        $unit = "[Service]"
        $start = /\nExecStart=-?\/(tmp|var\/tmp|dev\/shm)\/[^\s]{1,80}/
        $again = "Restart=always"
    condition:
        filesize < 50KB and all of them
}

rule preload_implant {
    meta:
        description = "Script that has a library of its own loaded into every program"
        action = "quarantine"
    strings:
        $preload = />>?\s*\/etc\/ld\.so\.preload/
        $compile = /gcc\s+[^\n]{0,80}-shared\s+[^\n]{0,80}-o\s+\/(lib|usr\/lib|usr\/local\/lib)/
    condition:
        filesize < 200KB and all of them
}

rule sudoers_implant {
    meta:
        description = "Script that lets an account of its own do everything"
        action = "quarantine"
    strings:
        $account = /useradd\s+[^\n]{0,60}-o\s+-u\s*0\b/
        $sudo = /NOPASSWD:\s*ALL["']?\s*>>?\s*\/etc\/sudoers/
    condition:
        filesize < 200KB and all of them
}

rule run_key_script {
    meta:
        description = "Script that puts a script host into the registry's Run key"
        action = "quarantine"
    strings:
        $add = /reg(\.exe)?\s+add\s+["']?HK(CU|LM)\\Software\\Microsoft\\Windows\\CurrentVersion\\Run/ nocase
        $host = /\/d\s+["']?[^\n]{0,40}(wscript|mshta|rundll32|regsvr32)/ nocase
    condition:
        filesize < 500KB and all of them
}

rule lolbin_remote_script {
    meta:
        description = "A system program used to run a script from elsewhere; administrators do it too"
        action = "report"
    strings:
        $regsvr = /regsvr32(\.exe)?\s+[^\n]{0,40}\/i:https?:\/\/[^\s]{4,200}\s+scrobj\.dll/ nocase
        $certutil = /certutil(\.exe)?\s+-urlcache\s+[^\n]{0,40}https?:\/\// nocase
        $mshta = /mshta(\.exe)?\s+["']?(vbscript|javascript):/ nocase
    condition:
        filesize < 500KB and any of them
}
