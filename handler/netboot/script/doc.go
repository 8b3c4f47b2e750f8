// Package script writes what boot loaders read: scripts of iPXE and
// configurations of pxelinux. It knows no node and no job: only what is to be
// started, from where, with which arguments.
package script
