// Package initramfs is the first program of the imaging system, process 1 of a
// node that booted from the network: it mounts what the kernel shows, loads
// the drivers of what is plugged in, gets an address on the control network,
// asks the boot service who it is, starts the agent and looks after it.
//
// Everything it needs to know stands in the kernel's command line
// ([Parameters]) or in the answer of the boot service. A step that cannot
// succeed is said on the console, and the machine restarts after a pause:
// there is nobody to ask, and the next boot may find a server that answers.
//
// The agent runs as a process of its own, so that its end, however it came,
// is seen and said. What does not live here: the agent (package agent), which
// modules are in the image (deploy/initramfs), the boot service (the handler's
// side, which this package never imports).
package initramfs
