package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSequentialPackages: what make test runs without the race detector starts no goroutine, and has none to share with
// but through a pool.
func TestSequentialPackages(t *testing.T) {
	root := filepath.Join("..", "..")
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^SEQUENTIAL := ((?:.*\\\n)*.*) \$\(addprefix (\S+),(.*)\)$`).FindStringSubmatch(string(makefile))
	require.NotNil(t, line)
	packages := strings.Fields(strings.ReplaceAll(line[1], "\\", " "))
	for _, p := range strings.Fields(line[3]) {
		packages = append(packages, line[2]+p)
	}
	require.Greater(t, len(packages), 5)
	for _, p := range packages {
		files, err := filepath.Glob(filepath.Join(root, p, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, p)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, nil, 0)
			require.NoError(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt, *ast.SendStmt, *ast.ChanType:
					t.Errorf("%s: concurrency in a package that is tested without the race detector", set.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "sync" && n.Sel.Name != "Pool" {
						t.Errorf("%s: sync.%s in a package that is tested without the race detector", set.Position(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}
