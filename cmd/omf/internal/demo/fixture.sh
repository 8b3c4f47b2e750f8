#!/bin/sh
# Makes fixture.ext4.zst anew: an ext4 filesystem of 80 MiB for machines that
# have no mke2fs. Its file /var/lib/demo/payload holds marked blocks that the
# demo fills with random bytes, so that the fixture stays small and the image
# made from it does not.
set -eu
cd "$(dirname "$0")"
top=$(cd ../../../.. && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/fs/etc" "$work/fs/usr/share/doc/loadnode" "$work/fs/var/lib/demo"
cp "$top/LICENSE" "$top"/events/*.go "$work/fs/usr/share/doc/loadnode/"
echo loadnode-demo >"$work/fs/etc/hostname"
ln -s ../etc/hostname "$work/fs/usr/hostname"
awk 'BEGIN { for (i = 0; i < 1536; i++) { m = sprintf("loadnode demo payload %08d\n", i); b = ""
  while (length(b) < 4096) b = b m; printf "%s", substr(b, 1, 4096) } }' >"$work/fs/var/lib/demo/payload"
id=6c6f6164-6e6f-6465-8000-64656d6f3031
mke2fs -q -t ext4 -b 4096 -L demo -U $id -E hash_seed=$id,root_owner=0:0 -d "$work/fs" -F "$work/img" 80M
e2fsck -fn "$work/img"
zstd -19 -q -f "$work/img" -o fixture.ext4.zst
