#!/bin/sh
# The guard for releases that act before user space: guard.py's behaviour in POSIX shell, for the initramfs.
#
#   guard.sh --component-dir DIR                   count this start, and heal if need be: before the release is read
#   guard.sh --component-dir DIR -- COMMAND...     the same, and become COMMAND
#   guard.sh --component-dir DIR --ended           this start ended in order: it was no abnormal end
#
# DIR is the component's directory in the agent's home, on a file system that can be written. It reads and writes the
# very files of guard.py (guard.json, note.json, condemned/, the links current and good), so that either may go on
# where the other stopped, and the agent need not know which of them it was. Needs no network and nothing of the agent.
#
# A start that ended in order (someone pressed the power button, the system shut down by itself) is taken off the count
# by --ended, run at shutdown, once a start and ENDS_EXCUSED times a release: one that makes the machine shut down in
# order for ever is taken back as well. A long press, a cut and a panic look alike and stay counted.
#
# Tools: sh, awk, cat, head, ln, mkdir, mv -T, readlink, rm, sync, tr: BusyBox from 1.34 has them all. Where flock is
# missing, agent and guard are not kept apart; in an initramfs there is no agent.
# Exit codes as guard.py's: 0; 2 usage; 3 `current` names no release.

STARTS_ALLOWED=2
ENDS_EXCUSED=3
LONGEST=65536
export LC_ALL=C

# Reads one JSON object and prints what the guard must know of it, one word a line; with `set`, prints it anew with the
# members in `set` (KEY=VALUE, separated by blanks) replaced or added. Exit 1: it is no whole JSON object.
PARSER='
function skip() { sub(/^[ \t\n\r]+/, "", text) }
function take(pattern) {
  if (!match(text, pattern)) return 0
  token = substr(text, 1, RLENGTH); text = substr(text, RLENGTH + 1)
  return 1
}
function value() {
  skip()
  if (text ~ /^[{]/) return items("}", 0)
  if (text ~ /^\[/) return items("]", 0)
  if (text ~ /^"/) return take(STRING)
  return take(NUMBER) || take("^(true|false|null|NaN|-?Infinity)")
}
function items(end, top,    name, before, c) {
  text = substr(text, 2); skip()
  if (substr(text, 1, 1) == end) { text = substr(text, 2); return 1 }
  while (1) {
    if (end == "}") {
      skip()
      if (!take(STRING)) return 0
      name = token; skip()
      if (!take("^:")) return 0
    }
    skip(); before = text
    if (!value()) return 0
    if (top) put(name, substr(before, 1, length(before) - length(text)))
    skip(); c = substr(text, 1, 1); text = substr(text, 2)
    if (c == end) return 1
    if (c != ",") return 0
    skip()
  }
}
function put(name, raw) { if (!(name in member)) order[++count] = name; member[name] = raw }
function word(name, pattern, instead,    raw) {
  raw = member["\"" name "\""]
  if (raw !~ pattern) raw = instead
  gsub(/"/, "", raw); print raw
}
BEGIN {
  RS = "\001"
  STRING = "^\"([^\"\\\\\001-\037]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F])*\""
  NUMBER = "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?"
}
{ text = text $0 }
END {
  skip()
  if (text !~ /^[{]/ || !items("}", 1)) exit 1
  skip()
  if (text != "") exit 1
  if (set != "") {
    pairs = split(set, pair, " ")
    for (i = 1; i <= pairs; i++) { at = index(pair[i], "="); put("\"" substr(pair[i], 1, at - 1) "\"", substr(pair[i], at + 1)) }
    line = "{"
    for (i = 1; i <= count; i++) line = line (i > 1 ? ", " : "") order[i] ": " member[order[i]]
    printf "%s}", line
    exit 0
  }
  TEXT = "^\"[0-9A-Za-z._-]+\"$"
  word("armed", "^true$", "false")
  word("slot", TEXT, "-")
  word("digest", TEXT, "-")
  word("starts", "^-?[0-9]+$", "0")
  word("starts_allowed", "^-?[0-9]+$", "-")
  word("ends_excused", "^[0-9]+$", "0")
  word("ended_boot", TEXT, "-")
}'

parse() { # FILE: no longer file is ours, and no NUL stands in JSON
  head -c "$LONGEST" "$1" 2>/dev/null | tr '\000\001' '\002\002' | awk "$PARSER" 2>/dev/null
}

say() { printf 'tidegate guard: %s\n' "$*" >&2; }

durable() { # one file or directory where sync can, else everything
  if [ "$one_by_one" ]; then sync "$1" 2>/dev/null; else sync; fi
}

replace() { # FILE TEXT: a power cut leaves the old one or the new one
  { printf '%s' "$2" >"$1.new"; } 2>/dev/null && durable "$1.new" && mv -fT "$1.new" "$1" 2>/dev/null &&
    durable "${1%/*}"
}

slot_of() { # POINTER: the name of the slot that it names, or nothing
  name=$(readlink "$DIR/$1" 2>/dev/null) || return 0
  name=${name%/}
  name=${name##*/}
  [ -n "$name" ] && [ -d "$DIR/slots/$name" ] && printf '%s' "$name"
}

point_back() { # let current name what good names, or remove it; on disk when this returns
  if [ -z "$good" ]; then
    rm -f "$DIR/current"
  else
    rm -f "$DIR/.current.new"
    ln -s "slots/$good" "$DIR/.current.new" && mv -fT "$DIR/.current.new" "$DIR/current"
  fi 2>/dev/null && durable "$DIR"
}

load() { # read guard.json; 1 if nothing here is on trial
  current=$(slot_of current) good=$(slot_of good)
  [ -n "$current" ] && [ "$current" != "$good" ] || return 1
  if words=$(parse "$STATE"); then
    whole=$(cat "$STATE")
  else # damaged: what is current and not good is on trial all the same
    [ -e "$STATE" ] || return 1
    whole="{\"armed\": true, \"slot\": \"$current\", \"starts\": 0}"
    words="true $current - 0 - 0 -"
  fi
  # shellcheck disable=SC2086
  set -- $words
  armed=$1 slot=$2 digest=$3 starts=$4 allowed=$5 excused=$6 ended_boot=$7
  [ "$armed" = true ] && [ "$slot" = "$current" ] || return 1
  [ "$digest" = - ] && digest=$current
  [ "$allowed" = - ] && allowed=$STARTS_ALLOWED
  [ ${#starts} -lt 10 ] || starts=999999999
  [ ${#allowed} -lt 10 ] || allowed=999999998
}

changed() { # SET: what guard.json holds, with members replaced
  printf '%s' "$whole" | awk -v "set=$1" "$PARSER"
}

count_start() {
  load || return 0
  starts=$((starts + 1)) why=
  if [ "$starts" -le "$allowed" ]; then
    replace "$STATE" "$(changed "starts=$starts")" && return 0
    why="this start could not be counted"
  fi
  take_back
}

# Note, condemn, move the pointer, disarm: in this order, so that a cut in between is finished by the next start. A
# full disk may refuse the note and the mark; the pointer is moved all the same, and the agent sees that it was.
take_back() {
  [ -n "$why" ] || why="$((starts - 1)) starts did not last"
  back="it was the first install: the component is absent again"
  [ -z "$good" ] || back="the last known good runs again"
  sentence="the guard took $(printf '%.16s' "$digest") back: $why; $back"
  replace "$DIR/note.json" "{\"digest\": \"$digest\", \"sentence\": \"$sentence\", \"slot\": \"$current\"}"
  [ -d "$DIR/condemned" ] || { mkdir "$DIR/condemned" && durable "$DIR"; } 2>/dev/null
  replace "$DIR/condemned/$digest" "{\"digest\": \"$digest\", \"reason\": \"$sentence\"}"
  if point_back; then
    say "$sentence"
    replace "$STATE" "$(changed "starts=$starts armed=false")"
  else
    say "the guard could not take the release back: its pointer in $DIR cannot be moved"
  fi
  return 0
}

ended() { # take this start off the count, once a start and a few times a release
  load || return 0
  boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) || boot=unknown
  [ "$starts" -gt 0 ] && [ "$excused" -lt "$ENDS_EXCUSED" ] && [ "$boot" != "$ended_boot" ] || return 0
  replace "$STATE" "$(changed "starts=$((starts - 1)) ends_excused=$((excused + 1)) ended_boot=\"$boot\"")"
}

alone() { # keep guard and agent from moving the pointer at once; go on after 2 s: a start must not hang
  if (command -v flock && : >>"$DIR/guard.lock") >/dev/null 2>&1; then
    exec 9>>"$DIR/guard.lock"
    flock -w 2 9
  fi
  "$@"
  exec 9>&-
}

usage() {
  echo "usage: guard.sh --component-dir DIR [--ended | -- COMMAND...]" >&2
  exit 2
}

[ $# -ge 2 ] && [ "$1" = --component-dir ] && [ -n "$2" ] || usage
DIR=$2 STATE=$2/guard.json
shift 2
one_by_one=
sync "$DIR" 2>/dev/null && one_by_one=yes
case ${1:-} in
  --ended) [ $# -eq 1 ] || usage; [ -d "$DIR" ] && alone ended; exit 0 ;;
  --) [ $# -ge 2 ] || usage; shift ;;
  '') [ $# -eq 0 ] || usage ;;
  *) usage ;;
esac
if [ -d "$DIR" ]; then
  alone count_start
else
  say "the guard could not take the release back: there is no directory $DIR"
fi
if [ -z "$(slot_of current)" ]; then
  say "nothing to start, $DIR/current names no release"
  exit 3
fi
[ $# -eq 0 ] || exec "$@"
exit 0
