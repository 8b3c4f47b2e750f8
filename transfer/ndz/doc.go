// Package ndz reads, writes and describes images in the .ndz format, the format of imagezip, imageunzip and Frisbee.
//
// An image is a sequence of self-contained chunks of 1 MiB. Each has a header that says which sectors it describes and
// which of them it carries, and one zlib stream with their content. [ParseHeader] reads the first, [Inflate] and
// [Stream] the second, [Writer] makes both. A [Manifest] holds the digests of all chunks of one image under one root
// digest; it is what makes an image trustworthy when its chunks arrive over an open network.
//
// The format is described in specs/ndz-format.md; section numbers in this package refer to it. Versions V1 to V4 are
// read; V3 is written, or V1 and V4 where that is asked for. Encrypted and signed V4 images, and relocations other than the short last sector, are refused
// with an error that says so.
//
// What does not live here: disks and the order of writes (transfer/install), free space of filesystems
// (transfer/imagezip), anything of the network.
package ndz
