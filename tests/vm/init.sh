#!/bin/busybox sh
# The little machine's early boot: it mounts its disk, runs the guard, loads a release before user space is up, and ends.
#
# What it says on its console begins with "vm:". Words on the kernel's command line change it: vm.guard=off leaves the
# guard out, vm.wait=press makes it wait, once the release is loaded, for someone to press the power button.

/bin/busybox mkdir -p /bin /proc /sys /dev /disk /run
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
exec >/dev/ttyS0 2>&1
for module in $(cat /modules/order); do insmod "/modules/$module" || echo "vm: no module $module"; done
tries=0
until [ -b /dev/vda ] || [ "$tries" = 100 ]; do tries=$((tries + 1)) && sleep 0.05; done
mount -t ext4 /dev/vda /disk || echo "vm: no disk"

said() { grep -q "$1" /proc/cmdline; }
COMPONENT=/disk/components/edr-rules
echo "vm: boot"

said vm.guard=off || sh /guard.sh --component-dir "$COMPONENT"

# The sensor hands twenty fields to the rules. A rule that asks for another reads past their end, and what reads past
# its end in early boot takes the kernel along.
fields=20
load() {
  while read -r word name field pattern; do
    [ "$word" = rule ] || continue
    if [ "$field" -gt "$fields" ]; then
      echo "vm: rule $name reads field $field of $fields, pattern $pattern"
      echo c >/proc/sysrq-trigger
      sleep 60
    fi
  done <"$1"
}
if [ -e "$COMPONENT/current/rules" ]; then
  load "$COMPONENT/current/rules"
  echo "vm: up with $(basename "$(readlink "$COMPONENT/current")")"
else
  echo "vm: up with nothing"
fi

if said vm.wait=press; then
  button=$(dirname "$(grep -l "Power Button" /sys/class/input/event*/device/name)")
  button=/dev/input/$(basename "${button%/device}")
  dd if="$button" of=/dev/null bs=24 count=1 2>/dev/null &
  sleep 0.3 # so that it listens before anybody presses
  echo "vm: waits"
  wait
  echo "vm: pressed"
  sh /guard.sh --component-dir "$COMPONENT" --ended
fi
cd / && umount /disk
echo "vm: off"
poweroff -f
