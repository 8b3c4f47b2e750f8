// Command e2e proves the imaging system on machines that boot: QEMU, in
// software, on a bridge in a network namespace of its own. make e2e runs it.
//
// There is one server (omf serve, as it is installed, with the role netboot)
// and three machines with blank disks behind different controllers: virtio, NVMe
// and SCSI, the last one with the firmware of UEFI. All start from the network
// first, always: one with the iPXE in its network card, one with an iPXE that
// it fetches by TFTP, the third with its firmware, which fetches one too. The
// server is asked to load an image that boots; it switches the machines on
// through its exec power driver, leads them into the imaging system, their
// agents load over multicast, compare what they wrote, and switch them off.
// Their disks are compared with the image byte by byte, from outside. Then they
// are switched on again, the server sends them to their disks, and they print a
// token that only the loaded system knows.
//
// The disk of one of them, which has run from it, is saved in spite of a power
// cut in the middle, and the image loaded on a fresh machine with a larger ATA
// disk: that starts from it, and knows of the starts of the first. Another one,
// whose disk is too small, is refused meanwhile, and its disk is untouched. Two
// machines lose their power in the middle of a load; one of them is on again at
// once. Then a load makes the last partition larger and the system the node's
// own.
//
// Then the same network has strangers, which take a machine's MAC and address
// and ask for its credential, and machines that never come. At last the server
// is started anew, with pxelinux in place of iPXE.
//
// The namespaces of network and processes end with the program, and with them
// everything it started. It needs root and what deploy/e2e/prepare installs.
package main
