// Package swap reads what is to be saved of a Linux swap area: its header, with the signature, the label and the UUID that
// /etc/fstab may name (ndz-format §8.3). The rest holds nothing once the system that used it is down.
//
// A system suspended to disk lives in a swap area: such an area is unclean, and nothing of it is free.
package swap
