// Command e2e proves the imaging system on machines that boot: QEMU, in
// software, on a bridge in a network namespace of its own. make e2e runs it.
//
// There is one server (omf serve, as it is installed) and three machines with
// blank disks behind different controllers: virtio, NVMe and SCSI, the last one
// with the firmware of UEFI. The server is asked to load an image that boots;
// it switches the machines on through its exec power driver, they boot kernel
// and initrd, their agents load over multicast, compare what they wrote, and
// switch them off. Their disks are compared with the image byte by byte, from
// outside. Then they start from their disks, and print a token that only the
// loaded system knows.
//
// Addresses and the boot configuration come from small services of its own,
// and the kernel is handed over by QEMU: the built-in network boot
// (handler/netboot) is not part of this proof.
//
// The namespaces of network and processes end with the program, and with them
// everything it started. It needs root and what deploy/e2e/prepare installs.
package main
