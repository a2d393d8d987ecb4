// Programs with an odd build.

import "elf"
import "hash"
import "math"
import "pe"

rule elf_packer_marks {
    meta:
        description = "ELF program with a packer's marks and no sections left"
        action = "quarantine"
    strings:
        $mark = "UPX!"
        $info = "$Info: This file is packed with the"
    condition:
        elf.type == elf.ET_EXEC and elf.sections.len() == 0 and any of them
}

rule elf_writable_code_segment {
    meta:
        description = "Small ELF program with one segment that is writable and executable"
        action = "quarantine"
    condition:
        filesize < 100KB and elf.type == elf.ET_EXEC and elf.segments.len() > 0 and
        for any segment in elf.segments : (
            segment.type == elf.PT_LOAD and segment.flags & 7 == 7
        )
}

rule elf_implant_sections {
    meta:
        description = "ELF program with sections named as an implant's builder names them"
        action = "quarantine"
    condition:
        elf.sections.len() > 0 and
        for any section in elf.sections : (
            section.name == ".cfgblob" or section.name == ".stage2"
        )
}

rule pe_odd_section_name {
    meta:
        description = "Windows program with a section that only packers make"
        action = "quarantine"
    condition:
        pe.is_pe and
        for any section in pe.sections : (
            section.name == "UPX0" or section.name == ".aspack" or section.name == ".petite"
        )
}

rule pe_entry_in_writable_section {
    meta:
        description = "Windows program with a section that is writable and executable"
        action = "report"
    condition:
        pe.is_pe and filesize < 1MB and
        for any section in pe.sections : (
            section.characteristics & pe.SECTION_MEM_EXECUTE != 0 and
            section.characteristics & pe.SECTION_MEM_WRITE != 0
        )
}

rule saltmarsh_beacon_config {
    meta:
        description = "Configuration of Saltmarsh, a family of our own invention: header, then encrypted bytes"
        action = "quarantine"
    strings:
        $header = { 53 4C 54 4D [4] 00 00 02 }
    condition:
        $header at 0 and filesize > 1KB and math.entropy(16, 1024) > 7.0
}

rule known_by_hash {
    meta:
        description = "A file that is known by its digest alone"
        action = "quarantine"
    condition:
        filesize < 1KB and
        hash.sha256(0, filesize) == "10944310a21cc5d2734f0ceca6bf1c6398c1472af560a15f68fd47b5d9b98934"
}
