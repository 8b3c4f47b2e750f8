// Package tftp serves the files of a boot directory by TFTP (RFC 1350, options
// of RFC 2348 and RFC 2349), for reading only, and with them files that are
// made when they are asked for. No name leaves the directory (os.Root).
//
// What is in the files, and who may have which, is not known here.
package tftp
