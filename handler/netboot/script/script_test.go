package script_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/handler/netboot/script"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestGolden(t *testing.T) {
	b := script.Boot{
		Testbed: "default", Node: "n1-1", MAC: "52:54:00:00:01:01", Base: "http://10.18.0.1:5012", Server: "nats://10.18.0.1:4222",
		Args: "console=ttyS0 omf.console=1",
	}
	for name, text := range map[string]string{
		"imaging.ipxe": script.IPXE(b), "disk.ipxe": script.IPXEDisk(b), "wait.ipxe": script.IPXEWait(b),
		"imaging.cfg": script.Pxelinux(b), "disk.cfg": script.PxelinuxDisk(),
	} {
		file := filepath.Join("testdata", name)
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), text, name)
	}
}

// TestNothingEscapes: nothing in the inventory adds a line or a command to a
// script.
func TestNothingEscapes(t *testing.T) {
	b := script.Boot{
		Testbed: "a b\nshell", Node: "n\nreboot && sanboot", MAC: "52:54:00:00:01:01", Base: "http://b", Server: "nats://s",
		Args: "good=1 ${net0/mac} a|b x;y \"q\" #c tail",
	}
	plain := b
	plain.Testbed, plain.Node, plain.Args = "t", "n", ""
	for _, pair := range [][2]string{
		{script.IPXE(b), script.IPXE(plain)}, {script.IPXEDisk(b), script.IPXEDisk(plain)},
		{script.IPXEWait(b), script.IPXEWait(plain)}, {script.Pxelinux(b), script.Pxelinux(plain)},
	} {
		require.Equal(t, strings.Count(pair[1], "\n"), strings.Count(pair[0], "\n"))
		require.Equal(t, strings.Count(pair[1], "&&"), strings.Count(pair[0], "&&"))
	}
	args := script.Args(b)
	require.Equal(t, []string{"good=1", "tail"}, args[len(args)-2:])
	require.NotContains(t, strings.Join(args, " "), "shell")
}
