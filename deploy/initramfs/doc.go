// Command initramfs builds the imaging system: a kernel, and a first root
// filesystem whose init is omf-agent.
//
//	go run ./deploy/initramfs -o bin/imaging                          # Debian's kernel for real machines
//	go run ./deploy/initramfs -o DIR -package linux-image-cloud-amd64 # a smaller one, for virtual machines
//	go run ./deploy/initramfs -o DIR -deb linux-image-….deb
//	go run ./deploy/initramfs -o DIR -kernel vmlinuz -modules /lib/modules/6.1.0
//
// It writes DIR/kernel and DIR/initrd. The same inputs give the same bytes.
// Packages are fetched with apt-get into a cache of its own; nothing is
// installed and nothing outside of cache and DIR is changed. Other
// architectures than this machine's work the same way (-arch arm64).
//
// The modules come with their dependencies, which it reads from the modules
// themselves, so depmod is not needed. docs/imaging-system.md says what is in
// the image and how it boots.
package main
