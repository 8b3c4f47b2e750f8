// Package install puts the chunks of an image on a disk, and tells the truth about it.
//
// An [Installer] takes chunks in any order from any number of goroutines. Each is checked completely before the first
// byte of it is written: against the manifest if there is one, and for its own structure always. What chunks describe
// as free is skipped, or filled. Finish checks that all chunks are there, makes an output file as long as the image
// says, waits until everything is on the medium and, if asked, reads all of it again and compares. [Stream] writes an
// image to something that cannot be positioned.
//
// What does not live here: the chunk format (transfer/ndz), opening disks and judging whether they may be written
// (transfer/disk), where chunks come from.
package install
