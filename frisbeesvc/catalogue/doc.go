// Package catalogue keeps the images of one directory: their names, their
// manifests, and the knowledge whether a file still is what its manifest says.
//
// # Files
//
//	DIR/NAME                    an image; NAME is [0-9A-Za-z._-], optionally SUB/NAME
//	DIR/NAME.manifest.json      its manifest, readable by ndz.DecodeManifest, with
//	                            provenance and the stamp of the file beside it
//	DIR/.NAME.partial           an upload that is not complete
//	DIR/.NAME.saving            an image that a node sends at this moment
//	DIR/.NAME.manifest.N.tmp    a manifest that is being written
//
// Whatever begins with a dot is invisible. An image appears under its name
// only when it is complete and checked, in one step. Everything is reached
// through [os.Root], so that no name and no symbolic link leads out of the
// directory.
//
// # Trust in a file
//
// The stamp (size, modification and change time, inode) decides whether a file
// has to be read again; it never decides that a changed file is fine. A file
// with another stamp is compared with its manifest chunk by chunk, and a file
// that differs is damaged: it is neither served nor replaced, until somebody
// restores it. What is read for sending goes through [File], whose Check is to
// be asked about every chunk that was read before any byte of it leaves.
//
// What does not live here: the bus and its facts (frisbeesvc), sessions
// (frisbeesvc/session), the format of images (transfer/ndz).
package catalogue
