package script

import (
	"fmt"
	"slices"
	"strings"
)

// Boot is what a node is to start.
type Boot struct {
	Testbed, Node, MAC string
	Base               string // of the boot service: "http://10.18.0.1:5012"
	Server             string // URL of the bus
	Args               string // more arguments of the kernel, of the inventory
}

// Args are the arguments of the imaging system's kernel, in the order in which
// it gets them. Words with bytes that would end an argument are left out: a
// loader has no way to quote them.
func Args(b Boot) []string {
	args := []string{
		"omf.testbed=" + b.Testbed, "omf.node=" + b.Node, "omf.server=" + b.Server,
		"omf.boot=" + b.Base, "omf.mac=" + b.MAC, "BOOTIF=01-" + strings.ReplaceAll(b.MAC, ":", "-"),
	}
	args = slices.DeleteFunc(args, func(a string) bool { return strings.HasSuffix(a, "=") || !word(a) })
	for _, a := range strings.Fields(b.Args) {
		if word(a) {
			args = append(args, a)
		}
	}
	return args
}

// word reports whether loaders hand an argument on as it is.
func word(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("\"'\\`$&|;#{}<>", r)
	})
}

func query(b Boot) string { return "?mac=" + b.MAC }

// itself is where the node's script is.
func itself(b Boot) string { return b.Base + "/boot/ipxe" + query(b) }

// IPXE is the script that starts the imaging system. If a file cannot be
// fetched it asks again: by then something else may be wanted of the node.
func IPXE(b Boot) string {
	return fmt.Sprintf(`#!ipxe
echo loadnode: %s starts the imaging system
kernel --name kernel %s/boot/kernel%s initrd=initrd %s || goto again
initrd --name initrd %s/boot/initrd%s || goto again
boot || goto again
:again
sleep 5
chain --replace --autofree %s
`, plain(b.Node), b.Base, query(b), strings.Join(Args(b), " "), b.Base, query(b), itself(b))
}

// IPXEDisk is the script that starts from the local disk. With EFI a loader
// that ends without success hands over to the next boot option; one that ends
// with it gets the firmware's menu.
func IPXEDisk(b Boot) string {
	return fmt.Sprintf(`#!ipxe
echo loadnode: %s starts from its disk
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit 1
`, plain(b.Node))
}

// IPXEWait is the script for a service that does not know yet what is wanted.
func IPXEWait(b Boot) string {
	return fmt.Sprintf(`#!ipxe
echo loadnode: %s waits for the boot service to read the log
sleep 2
chain --replace --autofree %s
`, plain(b.Node), itself(b))
}

// Pxelinux is the configuration that starts the imaging system. It needs
// lpxelinux.0, which fetches by HTTP.
func Pxelinux(b Boot) string {
	return fmt.Sprintf(`DEFAULT imaging
PROMPT 0
LABEL imaging
  KERNEL %s/boot/kernel%s
  INITRD %s/boot/initrd%s
  APPEND %s
`, b.Base, query(b), b.Base, query(b), strings.Join(Args(b), " "))
}

// PxelinuxDisk is the configuration that starts from the local disk.
func PxelinuxDisk() string {
	return "DEFAULT disk\nPROMPT 0\nLABEL disk\n  LOCALBOOT 0\n"
}

// plain is a name as a loader can show it.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !word(string(r)) {
			return '-'
		}
		return r
	}, s)
}
