// Package install puts the chunks of an image on a disk, and tells the truth about it.
//
// An [Installer] takes chunks in any order from any number of goroutines. Each is checked completely before the first
// byte of it is written: against the manifest if there is one, and for its own structure always. What chunks describe
// as free is skipped, or filled. Finish checks that all chunks are there, makes an output file as long as the image
// says, waits until everything is on the medium and, if asked, reads all of it again and compares. [Stream] writes an
// image to something that cannot be positioned.
//
// What each digest proves. The SHA-256 of a chunk: these are the bytes that the manifest means; whatever the network or
// a server did to them is found here. The Adler-32 in the chunk: it was inflated without a fault, for images without a
// manifest. The SHA-256 of the data: this machine made of the chunk what the maker of the manifest did, so neither its
// memory nor a decoder erred; it is also what the data digest of a Result is made of, which therefore is never copied
// from the manifest. None of them says what is on the medium: only reading back does. None is left out for speed: with
// the instructions of processors for SHA-256, both take a third of the time of a chunk.
//
// Memory: each call of Install at a time holds up to 8 MiB of data, whatever a chunk inflates to; what read-back needs
// is in [Config].
//
// What does not live here: the chunk format (transfer/ndz), opening disks and judging whether they may be written
// (transfer/disk), where chunks come from.
package install
