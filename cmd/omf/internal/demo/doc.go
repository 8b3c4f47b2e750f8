// Package demo makes what the demonstration needs and checks what it did: a
// real ext4 filesystem with real files, and the comparison of each disk with
// it. The restore that disks are compared with uses the standard library's
// decompressor and none of the code that nodes write with.
package demo
