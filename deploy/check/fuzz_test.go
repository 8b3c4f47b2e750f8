package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// parsers are the packages of the data plane that read what others wrote:
// datagrams, images, compressed data, filesystems, partition tables.
var parsers = []string{
	"handler/netboot/dhcp",
	"handler/netboot/tftp",
	"transfer/disk/ptable",
	"transfer/grow",
	"transfer/imagezip",
	"transfer/imagezip/ext",
	"transfer/imagezip/fat",
	"transfer/imagezip/ntfs",
	"transfer/imagezip/probe",
	"transfer/imagezip/swap",
	"transfer/imagezip/xfs",
	"transfer/inflate",
	"transfer/install",
	"transfer/ndz",
	"transfer/personalise",
	"transfer/wire",
}

// target is a fuzz target as its source has it.
type target struct {
	pkg, name string
	seeded    bool // by calls of Add or by files
}

// targets finds all fuzz targets of the module.
func targets(t *testing.T) (out []target) {
	t.Helper()
	root := os.DirFS("../..")
	require.NoError(t, fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			g := target{pkg: filepath.Dir(path), name: f.Name.Name}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Add" {
					g.seeded = true
				}
				return true
			})
			if files, err := fs.ReadDir(root, g.pkg+"/testdata/fuzz/"+g.name); err == nil && len(files) > 0 {
				g.seeded = true
			}
			out = append(out, g)
		}
		return nil
	}))
	return out
}

// TestFuzzTargets: every parser of outside data has a fuzz target with a corpus
// to begin with, and deploy/fuzz runs all targets there are.
func TestFuzzTargets(t *testing.T) {
	found := targets(t)
	var want []string
	for _, g := range found {
		want = append(want, "./"+g.pkg+" "+g.name)
		if !g.seeded {
			t.Errorf("%s of %s has nothing to begin with: give it seeds", g.name, g.pkg)
		}
	}
	for _, p := range parsers {
		if !slices.ContainsFunc(found, func(g target) bool { return g.pkg == p }) {
			t.Errorf("%s reads outside data and has no fuzz target", p)
		}
	}
	out, err := exec.Command("../fuzz", "-l").Output()
	require.NoError(t, err)
	require.ElementsMatch(t, want, strings.Split(strings.TrimSpace(string(out)), "\n"))
}
