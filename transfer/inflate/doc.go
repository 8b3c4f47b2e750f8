// Package inflate decodes zlib streams (RFC 1950) of deflate blocks (RFC 1951) that lie in memory as a whole, faster
// than a decoder can which has to ask for every byte.
//
// It is made for chunks of disk images: at most some megabytes of input, an output whose size is known beforehand and
// is part of what is checked. [Zlib] fills a slice of that size, [Append] one that grows if the size cannot be trusted,
// and a [Reader] hands out pieces where the output may be of any size. All of them accept what compress/zlib accepts,
// and say what is wrong with the rest ([Error]); no input makes them panic, or use more memory than is said there.
//
// The speed comes from 64 bits of input at hand, taken without a branch; tables whose entries say in one look what a
// symbol is and how many bits it takes with its extra bits, looked up before the last match is copied; and matches
// copied in words, beyond their end where there is room. Entries with two literals were tried and did not pay: chunks
// of disks hold too few literals that follow each other and have short codes.
//
// What does not live here: compressing (github.com/klauspost/compress), the chunk format (transfer/ndz).
package inflate
