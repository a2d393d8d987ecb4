// Stolen keys and passwords, and the tools that leave them behind.

rule logon_secrets_dump {
    meta:
        description = "Output of a tool that reads logon secrets out of memory"
        action = "quarantine"
    strings:
        $module = "sekurlsa::logonpasswords" nocase
        $ntlm = /\* NTLM\s+:\s+[0-9a-f]{32}/
        $session = /Authentication Id : 0 ; [0-9]{3,9}/
    condition:
        filesize < 20MB and 2 of them
}

rule shadow_file_copy {
    meta:
        description = "A copy of a password file with its hashes, outside of its place"
        action = "report"
    strings:
        $root = /(^|\n)root:\$(6|y|5)\$[.\/A-Za-z0-9$]{20,110}:[0-9]{4,6}:/
        $other = /\n[a-z_][a-z0-9_\-]{0,30}:\$(6|y|5)\$[.\/A-Za-z0-9$]{20,110}:[0-9]{4,6}:/
    condition:
        filesize < 1MB and all of them
}

rule browser_login_theft {
    meta:
        description = "Script that reads the passwords that browsers have saved"
        action = "quarantine"
    strings:
        $store = /Login Data/
        $query = /SELECT\s+origin_url,\s*username_value,\s*password_value\s+FROM\s+logins/ nocase
        $decrypt = "CryptUnprotectData"
    condition:
        filesize < 2MB and all of them
}

rule cloud_key_harvest {
    meta:
        description = "Script that asks a cloud's metadata address for keys and sends them away"
        action = "quarantine"
    strings:
        $metadata = "169.254.169.254/latest/meta-data/iam/security-credentials"
        $file = /\.aws\/credentials/
        $send = /curl\s+[^\n]{0,80}(-d|--data|-F|-T)\s/
    condition:
        filesize < 500KB and all of them
}

rule ticket_hash_list {
    meta:
        description = "A list of service tickets, ready to be guessed offline"
        action = "quarantine"
    strings:
        $ticket = /\$krb5tgs\$23\$\*[A-Za-z0-9._\-]{1,40}\$[A-Z0-9.\-]{1,60}\$[^\s$]{1,80}\*\$[0-9a-f]{32}\$[0-9a-f]{32}/
    condition:
        filesize < 20MB and $ticket
}
