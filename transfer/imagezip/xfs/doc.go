// Package xfs finds the free space of XFS filesystems, version 4 and 5, by the free-space B+trees of their allocation
// groups, and finds out by their log whether they were unmounted cleanly.
//
// What does not live here: inodes, files, the replay of a log, realtime devices.
package xfs
