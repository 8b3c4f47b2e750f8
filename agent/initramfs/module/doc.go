// Package module knows the modules of a kernel: what a device needs ([Index],
// from modules.dep and modules.alias as depmod writes them), in which order,
// and how they get into the kernel ([Loader]).
//
// It is used by the imaging system, which loads, and by its builder, which
// chooses. What does not live here: which devices there are (agent/initramfs),
// reading module files (deploy/initramfs).
package module
