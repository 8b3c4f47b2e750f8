package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStream(t *testing.T) {
	s := newStream(SystemClock{})
	firsts := 0
	s.first = func() { firsts++ }
	data := make([]byte, 5*heldBack)
	for i := range data {
		data[i] = byte(i * 31)
	}
	wrote := make(chan error, 1)
	go func() {
		for part := data; len(part) > 0; part = part[heldBack/2:] {
			if _, err := s.Write(part[:heldBack/2]); err != nil {
				wrote <- err
				return
			}
		}
		s.end(nil)
		wrote <- nil
	}()
	got, err := io.ReadAll(s)
	require.NoError(t, err)
	require.NoError(t, <-wrote)
	require.Equal(t, data, got)
	require.Equal(t, 1, firsts)
	sum := sha256.Sum256(data)
	require.Equal(t, hex.EncodeToString(sum[:]), s.trailer.Get(trailerDigest))
	require.Equal(t, "327680", s.trailer.Get(trailerLength))
	s.end(errors.New("too late"))
	_, err = s.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
}

// TestStreamDrips: a reader gets something now and then while a long run of
// zeros is captured, and Write waits for a reader that is slow.
func TestStreamDrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream(SystemClock{})
		_, err := s.Write(make([]byte, 2*heldBack))
		require.NoError(t, err)
		written := make(chan struct{})
		go func() {
			_, _ = s.Write(make([]byte, 1)) // what is read shows
			close(written)
		}()
		synctest.Wait()
		select {
		case <-written:
			t.Fatal("nobody has read, and more is taken")
		default:
		}
		buf := make([]byte, 10*heldBack)
		n, err := s.Read(buf)
		require.NoError(t, err)
		require.Equal(t, heldBack, n)
		<-written
		n, err = s.Read(buf)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		for range 3 {
			began := time.Now()
			n, err = s.Read(buf)
			require.NoError(t, err)
			require.Equal(t, drip, n)
			require.Equal(t, dripTime, time.Since(began))
		}
		require.EqualValues(t, heldBack+1+3*drip, s.sent())
		require.EqualValues(t, 2*heldBack+1, s.total())
	})
}

func TestStreamEnds(t *testing.T) {
	why := errors.New("why")
	s := newStream(SystemClock{})
	s.end(why)
	require.ErrorIs(t, s.awaitFirst(), why)
	_, err := s.Write([]byte("x"))
	require.ErrorIs(t, err, why)
	_, err = s.Read(make([]byte, 1))
	require.ErrorIs(t, err, why)
	require.Empty(t, s.trailer.Get(trailerDigest), "what is not whole has no digest")

	s = newStream(SystemClock{})
	require.NoError(t, s.Close())
	_, err = s.Write([]byte("x"))
	require.ErrorIs(t, err, errNobodyReads)
}
