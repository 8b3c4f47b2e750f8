// Package pxelinux sets the boot flags of nodes in the configuration directory
// of a TFTP tree (omf-legacy b.4, d): symbolic links to a boot configuration,
// named after the node's address in 8 upper-case hexadecimal digits and after
// its MAC, 01-aa-bb-cc-dd-ee-ff. A node without a link finds default, which
// boots its disk.
//
// A Tree knows which links are its own: a file beside the state of the handler
// has them, written before a link is made and after it is gone, so that one
// that was killed in between finds them again. Keep is told which links jobs
// want now, and makes it so; Set and Clear are for people, whose links end by
// themselves.
//
// What is not ours stays. A regular file, and a link that is not of the form
// ./name, are left as they are and said to be in the way. A link ./name that
// somebody else made (OMF's own service writes such) is replaced, as OMF does,
// and the result says so. Before a link is removed its target is compared: one
// that was changed by somebody else since is left.
//
// Who asks for links, and when, is package handler's.
package pxelinux
