// Command imagezip captures a disk, a filesystem or a file as a .ndz image. Its options are those of the original
// program as far as they apply (specs/ndz-format.md section 11); options that belong to things it does not do are
// refused, never ignored.
package main
