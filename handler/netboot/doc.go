// Package netboot leads the nodes with boot: {driver: builtin} into the imaging
// system, or past it onto their disks (DESIGN §9): DHCP (netboot/dhcp), TFTP
// (netboot/tftp), scripts for loaders (netboot/script) and the HTTP routes
// under /boot/.
//
// # A projection
//
// What a node is to boot follows from the facts of the jobs and from nothing
// else. From the first reboot.requested of a job until the node is asked to
// leave, has failed, or the job has ended, it gets the imaging system: a
// machine that crashes in between comes back there. In all other states, and
// all other nodes, boot from the local disk. The role keeps no state: after a
// restart it reads the log again, and until it has read it, loaders are told
// to wait. It does not need a handler to run, and several may run at once.
//
// # Who asks
//
// A request over HTTP, or for a configuration of pxelinux, comes from an
// address and names a MAC. Both must be of one node by the inventory;
// anything else is refused and counted. So every node that is led from here needs
// mac and ip in the inventory.
//
// # Stages
//
// What was seen of a node since its reboot.requested is telemetry
// (events.BootStage): with it the handler says where a node that did not come
// up was lost. After a restart of the role the stages are taken up from there.
package netboot
