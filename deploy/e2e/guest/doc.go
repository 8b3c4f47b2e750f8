// Command guest is the system on the image of make e2e, as small as it can be:
// first it is /init of its initrd, which loads drivers, finds the filesystem
// with the system and goes there; then it is /sbin/init of that filesystem,
// prints the token that stands in it, and switches the machine off.
package main
