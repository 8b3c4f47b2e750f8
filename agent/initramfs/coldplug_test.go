package initramfs

import (
	"errors"
	"log/slog"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// hub is a machine in which a driver brings further devices.
type hub struct {
	sys     fstest.MapFS
	brings  map[string]string // alias → device that its driver brings
	claimed []string
}

func (h *hub) Claim(modalias string) (int, error) {
	h.claimed = append(h.claimed, modalias)
	if modalias == "bad" {
		return 0, errors.New("no such device")
	}
	if next, ok := h.brings[modalias]; ok {
		h.sys["bus/virtio/devices/"+next+"/modalias"] = &fstest.MapFile{Data: []byte(next + "\n")}
		return 2, nil
	}
	return 0, nil
}

func TestColdplug(t *testing.T) {
	const card = "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"
	const disk = "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"
	h := &hub{
		sys: fstest.MapFS{
			"bus/pci/devices/0000:00:01.0/modalias": {Data: []byte(disk + "\n")},
			"bus/pci/devices/0000:00:02.0/modalias": {Data: []byte(disk + "\n")},
			"bus/pci/devices/0000:00:03.0/modalias": {Data: []byte(card + "\n")},
			"bus/pci/devices/0000:00:04.0/vendor":   {Data: []byte("0x8086\n")},
			"bus/acpi/devices/X/modalias":           {Data: []byte("bad\n")},
			"bus/acpi/devices/Y/modalias":           {Data: []byte("\n")},
		},
		brings: map[string]string{card: "virtio:d00000001v00001AF4"},
	}
	c := &coldplug{sys: h.sys, load: h, log: slog.New(slog.DiscardHandler), seen: map[string]bool{}}
	n, err := c.scan()
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []string{card, "bad", disk}, h.claimed, "cards first, each kind once")

	n, err = c.scan()
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, "virtio:d00000001v00001AF4", h.claimed[3], "what a driver brought")
	n, err = c.scan()
	require.NoError(t, err)
	require.Zero(t, n)
	require.Len(t, h.claimed, 4)

	_, err = (&coldplug{sys: fstest.MapFS{}, load: h, seen: map[string]bool{}}).scan()
	require.Error(t, err)
}
