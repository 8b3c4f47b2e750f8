// Command e2e proves the imaging system on machines that boot: QEMU, in
// software, on a bridge in a network namespace of its own. make e2e runs it.
//
//	deploy/e2e -omf bin/omf -imaging DIR -work DIR
//
// One server (omf serve, as it is installed) and three machines with blank
// disks behind different controllers: virtio, NVMe and SATA or IDE. The server
// is asked to load an image; it switches the machines on through its exec power
// driver, they boot kernel and initrd, their agents load over multicast and
// switch them off, and their disks are compared with the image byte by byte.
//
// The namespaces of network and processes end with the program, and with them
// everything it started. It needs root, qemu-system-x86_64, ip, sfdisk and
// mke2fs.
package main
