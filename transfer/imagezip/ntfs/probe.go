package ntfs

import (
	"context"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
)

var _ free.Probe = Probe

// Probe recognises NTFS. Its memory does not depend on the size of the volume but on the number of pieces of what it
// reads, and is bounded: 16 bytes for each free run, 24 for each run of the files it looks at.
func Probe(ctx context.Context, r io.ReaderAt, size int64, o free.Options) (*free.Filesystem, bool, error) {
	b := make([]byte, 512)
	if size < int64(len(b)) {
		return nil, false, nil
	}
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return nil, false, fmt.Errorf("read boot sector: %w", err)
	}
	if !isBoot(b) {
		return nil, false, nil
	}
	v, err := parse(b, size)
	if err != nil {
		return nil, true, err
	}
	v.r, v.size = r, size
	fs, err := v.examine(ctx, o)
	return fs, true, err
}

// examine reads what the volume says of itself.
func (v *volume) examine(ctx context.Context, o free.Options) (*free.Filesystem, error) {
	if err := v.openMFT(); err != nil {
		return nil, err
	}
	// Behind the clusters, in the last sector of the partition, is a copy of the boot sector.
	fs := &free.Filesystem{Kind: "ntfs", Sectors: min((v.sectors+1)*v.sector, uint64(v.size)) / free.SectorSize}
	var err error
	var dirty bool
	if fs.Label, dirty, err = v.state(); err != nil {
		return nil, err
	}
	if dirty {
		fs.Notes = append(fs.Notes, "the volume is marked dirty: run chkdsk /f")
	}
	closed, log, err := v.logClosed()
	if err != nil {
		return nil, err
	}
	if !closed {
		fs.Notes = append(fs.Notes, "the log of the volume is open: shut Windows down, or run chkdsk /f")
	}
	bitmapAttr, err := v.bitmapOf()
	if err != nil {
		return nil, err
	}
	m := bitmap{v: v}
	if err := m.read(ctx, bitmapAttr, o); err != nil {
		return nil, err
	}
	found, root, err := v.lookUp("pagefile.sys", "hiberfil.sys")
	if err != nil {
		return nil, err
	}
	metadata, err := v.metadata(&m, bitmapAttr, log, v.mft, root)
	if err != nil {
		return nil, err
	}
	hibernated, err := v.checkHibernation(found)
	if err != nil {
		return nil, err
	}
	if hibernated {
		fs.Notes = append(fs.Notes, "Windows is hibernated on the volume: start it and shut it down without fast startup (shutdown /s /t 0)")
	}
	fs.Unclean = dirty || !closed || hibernated
	fs.Free = &m.list
	fs.Notes = append(fs.Notes, m.notes()...)
	if !fs.Unclean {
		v.leaveOut(fs, found, metadata)
	}
	return fs, nil
}

// openMFT finds all of the MFT, from its first record.
func (v *volume) openMFT() error {
	b := make([]byte, v.record)
	if err := v.readClusters(b, v.mftAt*v.cluster, "record 0 of the MFT"); err != nil {
		return err
	}
	rec, err := v.parseRecord(b, fileMFT)
	if err != nil {
		return err
	}
	v.mft = &stream{v: v, what: "$MFT"}
	found, err := v.mft.collect(rec, typeData, "")
	if err != nil {
		return err
	}
	if !found || !v.mft.plain() || len(v.mft.runs) == 0 || v.mft.runs[0].at != v.mftAt {
		return damaged("$MFT does not say where it lies: run chkdsk")
	}
	return v.mft.complete()
}

// bitmapOf opens $Bitmap.
func (v *volume) bitmapOf() (*stream, error) {
	rec, err := v.readRecord(fileBitmap)
	if err != nil {
		return nil, err
	}
	s, err := v.open(rec, typeData, "")
	if err != nil {
		return nil, err
	}
	if s == nil || !s.plain() || s.initialized < (v.clusters+7)/8 {
		return nil, damaged("$Bitmap does not cover %d clusters: run chkdsk", v.clusters)
	}
	return s, nil
}

// metadata returns the clusters of the files that were read, and of the boot sector. $Bitmap must say that they are in
// use: if not, nothing it says can be believed.
func (v *volume) metadata(m *bitmap, files ...*stream) ([]free.Span, error) {
	var spans []free.Span
	add := func(what string, at, n uint64) error {
		if v.overlaps(m.list.Spans(), at, n) {
			return damaged("$Bitmap says that %s is free: run chkdsk", what)
		}
		spans = append(spans, v.span(at, n))
		return nil
	}
	if err := add("the boot sector", 0, max(bootSize/v.cluster, 1)); err != nil {
		return nil, err
	}
	if err := add("the mirror of the MFT", v.mirrorAt, 1); err != nil {
		return nil, err
	}
	for _, s := range files {
		if s == nil {
			continue
		}
		for _, r := range s.runs {
			if err := add(s.what, r.at, r.n); err != nil {
				return nil, err
			}
		}
	}
	return free.Merge(spans), nil
}

// checkHibernation looks into hiberfil.sys, if the root directory has it.
func (v *volume) checkHibernation(found map[string]uint64) (bool, error) {
	const name = "hiberfil.sys"
	ref, ok := found[name]
	if !ok {
		return false, nil
	}
	rec, err := v.file(ref, name)
	if err != nil {
		return false, err
	}
	return v.hibernated(rec)
}

// leaveOut adds to the free space what means nothing to the next start of Windows. Whatever is doubtful about it is saved.
func (v *volume) leaveOut(fs *free.Filesystem, found map[string]uint64, metadata []free.Span) {
	for _, name := range []string{"pagefile.sys", "hiberfil.sys"} {
		ref, ok := found[name]
		if !ok {
			continue
		}
		rec, err := v.file(ref, name)
		if err != nil {
			continue
		}
		s, runs := v.worthless(rec, name)
		if s == nil || v.conflict(s, fs.Free.Spans(), metadata) {
			continue
		}
		spans := append([]free.Span(nil), fs.Free.Spans()...)
		var sectors uint64
		for _, r := range runs {
			spans = append(spans, v.span(r.at, r.n))
			sectors += v.span(r.at, r.n).Sectors()
		}
		if sectors == 0 {
			continue
		}
		fs.Free = &free.List{}
		for _, span := range free.Merge(spans) {
			fs.Free.Add(span)
		}
		fs.Notes = append(fs.Notes, fmt.Sprintf("%d KiB of the content of %s are left out: Windows does not need them", sectors/2, name))
	}
}

// conflict says whether clusters of a file are free, belong to another or twice to this one.
func (v *volume) conflict(s *stream, lists ...[]free.Span) bool {
	var own []free.Span
	var sum uint64
	for _, r := range s.runs {
		for _, l := range lists {
			if v.overlaps(l, r.at, r.n) {
				return true
			}
		}
		own = append(own, v.span(r.at, r.n))
		sum += r.n * v.cluster / free.SectorSize
	}
	return free.Total(free.Merge(own)) != sum
}
