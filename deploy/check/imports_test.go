package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "loadnode"

// Third-party modules by the short names used in the table.
var thirdParty = map[string]string{
	"cloudevents": "github.com/cloudevents/sdk-go/v2",
	"nats.go":     "github.com/nats-io/nats.go",
	"nats-server": "github.com/nats-io/nats-server/v2",
	"nuid":        "github.com/nats-io/nuid",
	"jwt":         "github.com/nats-io/jwt/v2",
	"nkeys":       "github.com/nats-io/nkeys",
	"compress":    "github.com/klauspost/compress",
	"x/sys":       "golang.org/x/sys",
	"x/net":       "golang.org/x/net",
	"x/sync":      "golang.org/x/sync",
	"yaml":        "go.yaml.in/yaml/v3",
	"cobra":       "github.com/spf13/cobra",
	"pflag":       "github.com/spf13/pflag",
	"prometheus":  "github.com/prometheus/client_golang",
	"dhcp":        "github.com/insomniacslk/dhcp",
	"tftp":        "github.com/pin/tftp/v3",
	"testify":     "github.com/stretchr/testify",
}

// rule lists what a package and the packages below it may import besides the
// standard library. The longest matching prefix counts; a package may always
// import what lies below its own rule's prefix.
type rule struct {
	prefix string
	own    []string // packages of this module; "x/..." allows everything below x
	others []string // short names of thirdParty
}

// table is the layering of the project: vocabulary, bus, data plane and roles.
// Roles never import each other; they meet on the bus.
var table = []rule{
	{"events", nil, []string{"cloudevents"}},
	{"bus", []string{"events"}, []string{"nats.go", "nuid", "cloudevents", "x/sync"}},
	{"bus/credential", []string{"bus", "events"}, []string{"nats.go", "x/sync"}},
	{"bus/credential/callout", []string{"bus", "events", "bus/credential"}, []string{"nats.go", "jwt", "nkeys"}},
	{"bus/certificate", nil, nil},
	{"bus/embedded", []string{"bus", "events", "bus/credential"}, []string{"nats-server", "nats.go", "x/sys"}},
	{"bus/bustest", []string{"bus", "events", "bus/embedded"}, []string{"nats-server", "nats.go", "cloudevents", "testify"}},

	{"transfer", nil, nil},
	{"transfer/inflate", nil, nil},
	{"transfer/ndz", []string{"transfer/inflate"}, []string{"compress", "x/sync"}},
	{"transfer/ndz/ndztest", []string{"transfer/ndz"}, []string{"testify"}},
	{"transfer/disk", nil, []string{"x/sys"}},
	{"transfer/disk/ptable", nil, nil},
	{"transfer/disk/loop", nil, []string{"x/sys"}},
	{"transfer/grow", []string{"transfer/disk", "transfer/disk/ptable", "transfer/disk/loop"}, []string{"x/sys"}},
	{"transfer/personalise", []string{"transfer/disk", "transfer/disk/ptable", "transfer/disk/loop"}, []string{"x/sys"}},
	{"transfer/install", []string{"transfer/ndz", "transfer/disk"}, []string{"x/sync"}},
	{"transfer/imagezip", []string{"transfer/ndz", "transfer/disk", "transfer/disk/ptable"}, []string{"x/sync"}},
	{"transfer/imagezip/free", nil, nil},
	{"transfer/imagezip/ext", []string{"transfer/imagezip/free"}, nil},
	{"transfer/imagezip/xfs", []string{"transfer/imagezip/free"}, nil},
	{"transfer/imagezip/fat", []string{"transfer/imagezip/free"}, nil},
	{"transfer/imagezip/ntfs", []string{"transfer/imagezip/free"}, nil},
	{"transfer/imagezip/swap", []string{"transfer/imagezip/free"}, nil},
	{"transfer/imagezip/probe", []string{"transfer/imagezip/free"}, nil},
	{"transfer/imagezip/roundtrip", []string{"internal/tool", "transfer/imagezip", "transfer/imagezip/free", "transfer/ndz", "transfer/disk", "transfer/install"}, []string{"x/sys", "testify"}},
	{"transfer/wire", nil, nil},
	{"transfer/mcast", nil, []string{"x/net", "x/sys"}},
	{"transfer/server", []string{"transfer/wire", "transfer/mcast", "transfer/ndz"}, []string{"x/sync", "x/sys"}},
	{"transfer/client", []string{"transfer/wire", "transfer/mcast", "transfer/ndz", "transfer/install"}, []string{"x/sync"}},

	{"internal/freeport", nil, nil},
	{"internal/golden", nil, []string{"testify"}},
	{"internal/process", nil, []string{"testify"}},
	{"internal/tool", nil, []string{"testify"}},
	{"internal/vectors", nil, []string{"testify"}},

	{"handler", []string{"events", "bus", "handler/..."}, []string{"cloudevents", "x/sync"}},
	{"handler/job", []string{"events"}, []string{"cloudevents"}},
	{"handler/nodeset", nil, nil},
	{"handler/inventory", []string{"events", "handler/nodeset"}, []string{"yaml"}},
	{"handler/netboot", []string{"events", "bus", "handler/inventory"}, []string{"x/sync"}},
	{"handler/netboot/dhcp", nil, []string{"dhcp"}},
	{"handler/netboot/tftp", nil, []string{"tftp"}},
	{"handler/netboot/script", nil, nil},
	{"handler/power", []string{"events", "bus", "handler/inventory"}, []string{"x/sys"}},
	{"handler/netboot/pxelinux", nil, nil},
	{"handler/power/powertest", []string{"events", "handler/power", "handler/inventory"}, []string{"testify"}},

	{"frisbeesvc/compat", []string{"events", "bus"}, nil},
	{"frisbeesvc", []string{"events", "bus", "transfer/..."}, []string{"cloudevents", "x/sync", "x/sys"}},
	{"agent/internal/lab", []string{"events", "transfer/...", "internal/freeport"}, nil},
	{"agent/legacy/legacytest", []string{"agent/legacy", "agent/legacy/group", "agent/legacy/listener", "transfer/...", "internal/freeport"}, nil},
	{"agent/legacy/internal/transcript", []string{"internal/vectors"}, []string{"testify"}},
	{"agent", []string{"events", "bus", "transfer/..."}, []string{"cloudevents", "x/sync", "x/sys"}},

	{"agent/initramfs", []string{"events"}, []string{"x/sys", "dhcp"}},
	{"agent/initramfs/module", nil, []string{"x/sys"}},

	{"cmd/internal", []string{"transfer/ndz"}, nil},
	{"cmd/omf", []string{"...", "cmd/internal/..."}, []string{"cobra", "pflag", "prometheus", "yaml", "x/sys", "x/sync", "cloudevents", "nats.go", "nkeys", "compress"}},
	{"cmd/omf-agent", []string{"events", "bus", "agent", "agent/initramfs", "agent/legacy/...", "transfer/..."}, []string{"x/sys", "cloudevents"}},
	{"cmd/frisbee", []string{"transfer/...", "cmd/internal/..."}, nil},
	{"cmd/frisbeed", []string{"transfer/...", "cmd/internal/..."}, nil},
	{"cmd/imagezip", []string{"transfer/...", "cmd/internal/..."}, nil},
	{"cmd/imageunzip", []string{"transfer/...", "cmd/internal/..."}, nil},
	{"deploy", nil, nil},
	{"deploy/e2e", []string{"events", "bus", "agent/initramfs/module"}, []string{"x/net", "x/sys"}},
	{"deploy/initramfs", []string{"agent/initramfs/module"}, []string{"compress"}},
	{"deploy/bench", []string{"transfer/...", "deploy/lab"}, []string{"x/sys"}},
}

type listed struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else {
			require.NoError(t, err)
		}
		pkgs = append(pkgs, p)
	}
}

func below(pkg, prefix string) bool {
	return pkg == prefix || strings.HasPrefix(pkg, prefix+"/")
}

func ruleFor(pkg string) *rule {
	var best *rule
	for i := range table {
		if r := &table[i]; below(pkg, r.prefix) && (best == nil || len(r.prefix) > len(best.prefix)) {
			best = r
		}
	}
	return best
}

func (r *rule) allows(path string) bool {
	if own, ok := strings.CutPrefix(path, module+"/"); ok {
		if below(own, r.prefix) {
			return true
		}
		return slices.ContainsFunc(r.own, func(p string) bool {
			if base, ok := strings.CutSuffix(p, "..."); ok {
				return strings.HasPrefix(own+"/", base) && (base != "" || !below(own, "cmd"))
			}
			return own == p
		})
	}
	return slices.ContainsFunc(r.others, func(short string) bool { return below(path, thirdParty[short]) })
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != module
}

// TestImportsFollowTheTable keeps the layering: every import of every package
// outside the standard library stands in the table above.
func TestImportsFollowTheTable(t *testing.T) {
	pkgs := goList(t, "./...")
	require.NotEmpty(t, pkgs)
	for _, p := range pkgs {
		own := strings.TrimPrefix(p.ImportPath, module+"/")
		r := ruleFor(own)
		if r == nil {
			t.Errorf("package %s has no row in the import table", own)
			continue
		}
		for _, path := range p.Imports {
			if !standard(path) && !r.allows(path) {
				t.Errorf("%s imports %s, which its row in the import table does not allow", own, path)
			}
		}
	}
}

// TestRolesMeetOnTheBus holds for tests as well: a role that needs another
// one in its tests has left the bus.
func TestRolesMeetOnTheBus(t *testing.T) {
	roles := []string{"handler", "frisbeesvc", "agent"}
	for _, p := range goList(t, "./handler/...", "./frisbeesvc/...", "./agent/...") {
		own := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			dep := strings.TrimPrefix(path, module+"/")
			for _, role := range roles {
				if below(dep, role) && !below(own, role) {
					t.Errorf("%s imports %s: roles meet on the bus only", own, dep)
				}
			}
		}
	}
}

// TestTransferKnowsNoBus keeps the data plane usable without the bus, in tests
// as in code.
func TestTransferKnowsNoBus(t *testing.T) {
	for _, p := range goList(t, "./transfer/...") {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			dep := strings.TrimPrefix(path, module+"/")
			if below(dep, "events") || below(dep, "bus") || path == "log/slog" {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}

// TestCommandsLinkNoTests: what only tests import is in no program.
func TestCommandsLinkNoTests(t *testing.T) {
	for _, p := range goList(t, "-deps", "./cmd/...", "./deploy/initramfs", "./deploy/packages") {
		own := strings.TrimPrefix(p.ImportPath, module+"/")
		if below(p.ImportPath, thirdParty["testify"]) || own != p.ImportPath && below(own, "internal") {
			t.Errorf("a program links %s", p.ImportPath)
		}
	}
}

// TestAgentLinksNoServer keeps the agent small: it lives in an initramfs.
func TestAgentLinksNoServer(t *testing.T) {
	for _, p := range goList(t, "-deps", "./cmd/omf-agent") {
		for _, short := range []string{"nats-server", "cobra", "prometheus", "yaml"} {
			if below(p.ImportPath, thirdParty[short]) {
				t.Errorf("omf-agent links %s", p.ImportPath)
			}
		}
	}
}
