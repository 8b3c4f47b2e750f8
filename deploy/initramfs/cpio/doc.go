// Package cpio writes archives in the form that the Linux kernel unpacks as
// its first root filesystem: cpio "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
// The same calls give the same bytes: times are fixed and numbers are counted.
// It does not read archives.
package cpio
