package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Fixed sizes of the protocol (§1, §2).
const (
	// BlockSize is the number of image bytes in a BLOCK.
	BlockSize = 1024
	// BlocksPerChunk is the number of blocks in a chunk.
	BlocksPerChunk = 1024
	// ChunkSize is the number of bytes in a chunk.
	ChunkSize = BlockSize * BlocksPerChunk

	// HeaderSize is the common header of all datagrams.
	HeaderSize = 16
	// BlockHeaderSize is what precedes the image bytes in a BLOCK.
	BlockHeaderSize = 24
	// BlockDatagramSize is the size of a BLOCK, UDP payload.
	BlockDatagramSize = BlockHeaderSize + BlockSize

	// Overhead is what a datagram costs on Ethernet beyond its UDP payload:
	// IP and UDP headers, Ethernet header, CRC, preamble and gap (§4).
	Overhead = 66
)

// Type says which way a datagram is meant. BLOCK is sent with TypeRequest
// although it answers one.
type Type int32

// The two types.
const (
	TypeRequest Type = 1
	TypeReply   Type = 2
)

// Subtype is the kind of a datagram.
type Subtype int32

// The subtypes of §3, and our own, which old peers ignore. Numbers from 10 on are free.
const (
	Join       Subtype = 1
	Leave      Subtype = 2
	Block      Subtype = 3
	Request    Subtype = 4
	Leave2     Subtype = 5
	PRequest   Subtype = 6
	Join2      Subtype = 7
	Progress   Subtype = 8
	Reports    Subtype = 9 // see Report
	maxSubtype         = Reports
)

var subtypeNames = [...]string{"0", "JOIN", "LEAVE", "BLOCK", "REQUEST", "LEAVE2", "PREQUEST", "JOIN2", "PROGRESS", "REPORT"}

// String is the name the specification uses.
func (s Subtype) String() string {
	if s > 0 && s <= maxSubtype {
		return subtypeNames[s]
	}
	return fmt.Sprintf("subtype %d", int32(s))
}

// Bodies after the header, in bytes.
const (
	joinLen           = 4
	leaveLen          = 8
	blockLen          = 8 + BlockSize
	requestLen        = 12
	prequestLen       = 8 + BlocksPerChunk/8
	join2Len          = 24
	progressLen       = 16
	progressReportLen = progressLen + 16 + packedStatsSize
	leave2PackedLen   = leaveLen + packedStatsSize
	leave2LP64Len     = leaveLen + lp64StatsSize
)

// Errors of Decode. They are wrapped with the values that were wrong.
var (
	// ErrShort: the datagram ends before its header, or before the length its header claims.
	ErrShort = errors.New("datagram too short")
	// ErrType: the type is neither request nor reply.
	ErrType = errors.New("bad message type")
	// ErrSubtype: the subtype is not one of 1 to 9; a peer of another generation may send such.
	ErrSubtype = errors.New("unknown message subtype")
	// ErrLength: the header claims fewer bytes than the subtype has.
	ErrLength = errors.New("bad message length")
	// ErrRange: a chunk, block or count is outside what any image can have.
	ErrRange = errors.New("number out of range")
)

// What bits of PROGRESS.
const (
	ProgressSummary uint16 = 1 << 0
	ProgressStats   uint16 = 1 << 1
)

// Packet is a decoded datagram. Subtype says which of the fields mean
// something; the comment behind each names them.
type Packet struct {
	Type    Type
	Subtype Subtype
	// Source is the address the sender claims (must equal the IP source, §2).
	Source [4]byte

	// ClientID: JOIN request, LEAVE, LEAVE2, JOIN2, PROGRESS and REPORT (0 = all).
	ClientID uint32
	// Blocks is the size of the image in blocks: JOIN reply, JOIN2.
	Blocks uint32
	// BlocksPerChunk, BlockSize, Size (bytes): JOIN2.
	BlocksPerChunk int32
	BlockSize      int32
	Size           uint64

	// Elapsed seconds: LEAVE, LEAVE2.
	Elapsed int32
	// Stats and their layout: LEAVE2 and PROGRESS with What != 0.
	Stats  Stats
	Layout Layout

	// Chunk: BLOCK, REQUEST, PREQUEST.
	Chunk int32
	// Block: BLOCK; the first one: REQUEST.
	Block int32
	// Count: REQUEST. May be 0, which asks for nothing.
	Count int32
	// Data of a BLOCK, BlockSize bytes, a view into the datagram.
	Data []byte
	// Retries: PREQUEST; 1 means "asked for this chunk before".
	Retries int32
	// Wanted: PREQUEST. May be empty, which asks for nothing.
	Wanted Bitmap

	// PROGRESS. Who is the node meant or answering (network order on the wire).
	Who  [4]byte
	When uint32 // request: interval in s, 0 = once now; reply: Unix time
	What uint16
	Seq  uint16
	// PROGRESS reply with What != 0.
	ChunksReceived     uint32
	ChunksDecompressed uint32
	BytesWritten       uint64

	// REPORT: the question of a server, the answer of a client.
	Ask    Ask
	Report Report
}

// SourceAddr is the claimed source as an address.
func (p *Packet) SourceAddr() netip.Addr { return netip.AddrFrom4(p.Source) }

// ForServer says whether a server may look at this datagram: subtypes 1, 2 and
// 4 to 7 as requests, 8 and 9 as replies (§7 rule 4). A server's own JOIN replies and
// BLOCKs are thereby not for it, wherever they seem to come from.
func (p *Packet) ForServer() bool {
	switch p.Subtype {
	case Join, Leave, Request, Leave2, PRequest, Join2:
		return p.Type == TypeRequest
	case Progress, Reports:
		return p.Type == TypeReply
	}
	return false
}

// ForClient says whether a client may look at this datagram: replies to joins,
// blocks, questions for progress and reports, and the requests of others, which it overhears.
func (p *Packet) ForClient() bool {
	switch p.Subtype {
	case Join, Join2:
		return p.Type == TypeReply
	case Block, Request, PRequest, Progress, Reports:
		return p.Type == TypeRequest
	}
	return false
}

// Decode reads a datagram into p. Fields the subtype does not have keep what
// they had; p may be used again for the next datagram. On error p is undefined.
// Bytes behind the length the header states are ignored, as both original
// generations do.
func (p *Packet) Decode(d []byte) error {
	if len(d) < HeaderSize {
		return fmt.Errorf("%w: %d bytes, header has %d", ErrShort, len(d), HeaderSize)
	}
	le := binary.LittleEndian
	p.Type = Type(le.Uint32(d))
	p.Subtype = Subtype(le.Uint32(d[4:]))
	n := le.Uint32(d[8:])
	copy(p.Source[:], d[12:16])
	if p.Type != TypeRequest && p.Type != TypeReply {
		return fmt.Errorf("%w: %d", ErrType, int32(p.Type))
	}
	if p.Subtype < Join || p.Subtype > maxSubtype {
		return fmt.Errorf("%w: %d", ErrSubtype, int32(p.Subtype))
	}
	if uint64(n) > uint64(len(d)-HeaderSize) {
		return fmt.Errorf("%w: %s of %d bytes claims %d after its header", ErrShort, p.Subtype, len(d), n)
	}
	b := d[HeaderSize : HeaderSize+int(n)]
	if want := p.minBody(); len(b) < want {
		return fmt.Errorf("%w: %s has %d bytes after its header, needs %d", ErrLength, p.Subtype, len(b), want)
	}
	return p.decodeBody(b)
}

// decodeBody reads what follows the header, which is not shorter than minBody.
func (p *Packet) decodeBody(b []byte) error {
	le := binary.LittleEndian
	switch p.Subtype {
	case Join:
		if p.Type == TypeReply {
			p.Blocks = le.Uint32(b)
		} else {
			p.ClientID = le.Uint32(b)
		}
	case Leave:
		p.ClientID = le.Uint32(b)
		p.Elapsed = int32(le.Uint32(b[4:]))
	case Block:
		p.Chunk = int32(le.Uint32(b))
		p.Block = int32(le.Uint32(b[4:]))
		p.Data = b[8:blockLen:blockLen]
		if p.Chunk < 0 || p.Block < 0 || p.Block >= BlocksPerChunk {
			return fmt.Errorf("%w: BLOCK chunk %d block %d", ErrRange, p.Chunk, p.Block)
		}
	case Request:
		p.Chunk = int32(le.Uint32(b))
		p.Block = int32(le.Uint32(b[4:]))
		p.Count = int32(le.Uint32(b[8:]))
		// The sum is taken in 64 bits: in 32 it overflows, which killed an original server.
		if p.Chunk < 0 || p.Block < 0 || p.Count < 0 || int64(p.Block)+int64(p.Count) > BlocksPerChunk {
			return fmt.Errorf("%w: REQUEST chunk %d blocks %d+%d", ErrRange, p.Chunk, p.Block, p.Count)
		}
	case Leave2:
		p.ClientID = le.Uint32(b)
		p.Elapsed = int32(le.Uint32(b[4:]))
		p.Layout = LayoutPacked
		if len(b) >= leave2LP64Len {
			p.Layout = LayoutLP64
		}
		p.Stats.decode(b[leaveLen:], p.Layout)
	case PRequest:
		p.Chunk = int32(le.Uint32(b))
		p.Retries = int32(le.Uint32(b[4:]))
		copy(p.Wanted[:], b[8:prequestLen])
		if p.Chunk < 0 {
			return fmt.Errorf("%w: PREQUEST chunk %d", ErrRange, p.Chunk)
		}
	case Join2:
		p.ClientID = le.Uint32(b)
		p.Blocks = le.Uint32(b[4:])
		p.BlocksPerChunk = int32(le.Uint32(b[8:]))
		p.BlockSize = int32(le.Uint32(b[12:]))
		p.Size = le.Uint64(b[16:])
	case Progress:
		p.ClientID = le.Uint32(b)
		copy(p.Who[:], b[4:8])
		p.When = le.Uint32(b[8:])
		p.What = le.Uint16(b[12:])
		p.Seq = le.Uint16(b[14:])
		if p.Type == TypeReply && p.What != 0 {
			if len(b) < progressReportLen {
				return fmt.Errorf("%w: PROGRESS report has %d bytes after its header, needs %d", ErrLength, len(b), progressReportLen)
			}
			p.ChunksReceived = le.Uint32(b[16:])
			p.ChunksDecompressed = le.Uint32(b[20:])
			p.BytesWritten = le.Uint64(b[24:])
			p.Layout = LayoutPacked
			p.Stats.decode(b[32:], LayoutPacked)
		}
	case Reports:
		p.ClientID = le.Uint32(b)
		if p.Type == TypeRequest {
			p.Ask = Ask{Every: le.Uint32(b[4:]), Burst: le.Uint32(b[8:])}
		} else if !p.Report.decode(b[4:]) {
			return fmt.Errorf("%w: REPORT chunk %d block %d, %d of %d buffers free", ErrRange, p.Report.LastChunk, p.Report.LastBlock, p.Report.Free, p.Report.Buffers)
		}
	}
	return nil
}

// minBody is the least number of bytes the subtype has after the header.
func (p *Packet) minBody() int {
	switch p.Subtype {
	case Join:
		return joinLen
	case Leave:
		return leaveLen
	case Block:
		return blockLen
	case Request:
		return requestLen
	case Leave2:
		return leave2PackedLen
	case PRequest:
		return prequestLen
	case Join2:
		return join2Len
	case Reports:
		if p.Type == TypeRequest {
			return reportAskLen
		}
		return reportLen
	default:
		return progressLen
	}
}

// Append writes the datagram behind dst and returns the longer slice. The
// length field is computed. A Block's Data must hold BlockSize bytes; shorter
// data is padded with zeros, as the last block of an image is.
func (p *Packet) Append(dst []byte) []byte {
	le := binary.LittleEndian
	start := len(dst)
	dst = le.AppendUint32(dst, uint32(p.Type))
	dst = le.AppendUint32(dst, uint32(p.Subtype))
	dst = le.AppendUint32(dst, 0)
	dst = append(dst, p.Source[:]...)
	switch p.Subtype {
	case Join:
		if p.Type == TypeReply {
			dst = le.AppendUint32(dst, p.Blocks)
		} else {
			dst = le.AppendUint32(dst, p.ClientID)
		}
	case Leave:
		dst = le.AppendUint32(dst, p.ClientID)
		dst = le.AppendUint32(dst, uint32(p.Elapsed))
	case Block:
		dst = le.AppendUint32(dst, uint32(p.Chunk))
		dst = le.AppendUint32(dst, uint32(p.Block))
		n := min(len(p.Data), BlockSize)
		dst = append(dst, p.Data[:n]...)
		dst = append(dst, zeros[n:]...)
	case Request:
		dst = le.AppendUint32(dst, uint32(p.Chunk))
		dst = le.AppendUint32(dst, uint32(p.Block))
		dst = le.AppendUint32(dst, uint32(p.Count))
	case Leave2:
		dst = le.AppendUint32(dst, p.ClientID)
		dst = le.AppendUint32(dst, uint32(p.Elapsed))
		dst = p.Stats.append(dst, p.Layout)
	case PRequest:
		dst = le.AppendUint32(dst, uint32(p.Chunk))
		dst = le.AppendUint32(dst, uint32(p.Retries))
		dst = append(dst, p.Wanted[:]...)
	case Join2:
		dst = le.AppendUint32(dst, p.ClientID)
		dst = le.AppendUint32(dst, p.Blocks)
		dst = le.AppendUint32(dst, uint32(p.BlocksPerChunk))
		dst = le.AppendUint32(dst, uint32(p.BlockSize))
		dst = le.AppendUint64(dst, p.Size)
	case Progress:
		dst = le.AppendUint32(dst, p.ClientID)
		dst = append(dst, p.Who[:]...)
		dst = le.AppendUint32(dst, p.When)
		dst = le.AppendUint16(dst, p.What)
		dst = le.AppendUint16(dst, p.Seq)
		if p.Type == TypeReply && p.What != 0 {
			dst = le.AppendUint32(dst, p.ChunksReceived)
			dst = le.AppendUint32(dst, p.ChunksDecompressed)
			dst = le.AppendUint64(dst, p.BytesWritten)
			dst = p.Stats.append(dst, LayoutPacked)
		}
	case Reports:
		dst = le.AppendUint32(dst, p.ClientID)
		if p.Type == TypeRequest {
			dst = le.AppendUint32(dst, p.Ask.Every)
			dst = le.AppendUint32(dst, p.Ask.Burst)
		} else {
			dst = p.Report.append(dst)
		}
	}
	le.PutUint32(dst[start+8:], uint32(len(dst)-start-HeaderSize))
	return dst
}

var zeros [BlockSize]byte

// PutBlockHeader writes the first BlockHeaderSize bytes of a BLOCK into d; the
// image bytes follow. It is Append for a sender that lays out its own batch.
func PutBlockHeader(d []byte, source [4]byte, chunk, block int) {
	le := binary.LittleEndian
	le.PutUint32(d[0:], uint32(TypeRequest))
	le.PutUint32(d[4:], uint32(Block))
	le.PutUint32(d[8:], blockLen)
	copy(d[12:16], source[:])
	le.PutUint32(d[16:], uint32(chunk))
	le.PutUint32(d[20:], uint32(block))
}
