// Scripts that load, hide or run other programs.

rule ps_encoded_cradle {
    meta:
        description = "PowerShell that runs a long base64 command out of sight"
        action = "quarantine"
    strings:
        $shell = /powershell(\.exe)?\s/ nocase
        $hidden = /-w(indowstyle)?\s+hidden/ nocase
        $encoded = /-e(nc|ncodedcommand)?\s+[A-Za-z0-9+\/]{60}/ nocase
    condition:
        filesize < 1MB and all of them
}

rule ps_download_cradle {
    meta:
        description = "PowerShell that runs what it downloads, without a file"
        action = "quarantine"
    strings:
        $client = "Net.WebClient" nocase
        $fetch = ".DownloadString(" nocase
        $run = /\b(iex|invoke-expression)\b/ nocase
    condition:
        filesize < 1MB and all of them
}

rule ps_scan_interface_patch {
    meta:
        description = "PowerShell that switches the script scanning interface off"
        action = "quarantine"
    strings:
        $type = "System.Management.Automation.AmsiUtils" nocase
        $field = "amsiInitFailed" nocase
        $set = "SetValue($null" nocase
    condition:
        filesize < 1MB and all of them
}

rule js_activex_dropper {
    meta:
        description = "Script host JavaScript that fetches, saves and starts a program"
        action = "quarantine"
    strings:
        $http = "MSXML2.XMLHTTP" nocase
        $stream = "ADODB.Stream" nocase
        $save = ".SaveToFile(" nocase
        $run = "WScript.Shell" nocase
    condition:
        filesize < 1MB and all of them
}

rule vba_autoopen_shell {
    meta:
        description = "Office macro that starts a program when the document opens"
        action = "quarantine"
    strings:
        $open = /Sub\s+(Auto_?Open|Document_Open|Workbook_Open)\s*\(/ nocase
        $create = "CreateObject(" nocase
        $shell = "WScript.Shell" nocase
        $run = /\.Run\s*\(?\s*"/ nocase
    condition:
        filesize < 5MB and all of them
}

rule hta_inline_runner {
    meta:
        description = "HTML application with a script that starts programs"
        action = "quarantine"
    strings:
        $application = "<hta:application" nocase
        $window = "window.moveTo(-" nocase
        $run = ".ShellExecute" nocase
    condition:
        filesize < 1MB and all of them
}

rule batch_disables_protection {
    meta:
        description = "Batch file that switches protection and its logs off"
        action = "quarantine"
    strings:
        $monitor = "DisableRealtimeMonitoring $true" nocase
        $service = /sc\s+(stop|config)\s+windefend/ nocase
        $logs = /wevtutil\s+cl\s+security/ nocase
    condition:
        filesize < 1MB and 2 of them
}

rule python_unpacks_and_runs {
    meta:
        description = "Python that executes a packed text of its own"
        action = "quarantine"
    strings:
        $run = /exec\s*\(\s*(zlib\.decompress|marshal\.loads)\s*\(/
        $decode = "base64.b64decode("
        $text = /b64decode\(\s*b?["'][A-Za-z0-9+\/]{80}/
    condition:
        filesize < 2MB and all of them
}
