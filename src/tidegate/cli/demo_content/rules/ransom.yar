// Extortion. Glasswharf is a family of our own invention.

import "math"

rule glasswharf_note {
    meta:
        description = "Glasswharf's note"
        action = "quarantine"
    strings:
        $name = "GLASSWHARF" wide ascii
        $harbour = "Your files lie in our harbour" wide ascii nocase
        $berth = /Berth number: [0-9A-F]{8}-[0-9A-F]{8}/ wide ascii
    condition:
        filesize < 64KB and 2 of them
}

rule glasswharf_encrypted {
    meta:
        description = "A file that Glasswharf has encrypted: its header, then bytes without order"
        action = "report"
    strings:
        $magic = { 47 4C 57 46 01 00 [2] 42 45 52 54 48 }
    condition:
        $magic at 0 and filesize > 2KB and math.entropy(64, filesize - 64) > 7.5
}

rule ransom_note_generic {
    meta:
        description = "A note that asks for money for files"
        action = "quarantine"
    strings:
        $encrypted = /your (files|documents|network)[a-z ,]{0,40} (have been|are|were) encrypted/ nocase
        $pay = /(bitcoin|btc|monero|xmr) (wallet|address)/ nocase
        $tor = /[a-z2-7]{56}\.onion/
        $warn = /do not (rename|modify|try to decrypt)/ nocase
    condition:
        filesize < 64KB and 3 of them
}

rule shadow_copies_deleted {
    meta:
        description = "Commands that take the way back: shadow copies, backups, recovery"
        action = "quarantine"
    strings:
        $shadow = /vssadmin(\.exe)?\s+delete\s+shadows\s+\/all/ nocase
        $wmic = /wmic(\.exe)?\s+shadowcopy\s+delete/ nocase
        $boot = /bcdedit(\.exe)?\s+\/set\s+[^\n]{1,20}\s+recoveryenabled\s+no/ nocase
        $backup = /wbadmin(\.exe)?\s+delete\s+catalog/ nocase
    condition:
        filesize < 5MB and 2 of them
}

rule encryptor_target_list {
    meta:
        description = "A list of file endings with a folder list that leaves the system able to show a note"
        action = "quarantine"
    strings:
        $endings = ".docx;.xlsx;.pptx;.pst;.vmdk;.vhdx;.bak;.sql" nocase
        $spare = "Windows;Boot;System Volume Information;$Recycle.Bin" nocase
    condition:
        filesize < 5MB and all of them
}
