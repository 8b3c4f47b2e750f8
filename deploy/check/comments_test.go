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

// reference is a link in a doc comment: [Name], [Name.Member] or [pkg.Name].
var reference = regexp.MustCompile(`\[(?:([a-z][a-z0-9]*)\.)?([A-Z]\w*)(?:\.([A-Z]\w*))?\]`)

// folder is a package as its sources have it.
type folder struct {
	name  string
	names map[string]bool // what it declares; members as Type.Member
	texts map[token.Position]string
}

func read(t *testing.T, dir string) *folder {
	t.Helper()
	set := token.NewFileSet()
	f := &folder{names: map[string]bool{}, texts: map[token.Position]string{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		f.name = file.Name.Name
		if file.Doc != nil {
			f.texts[set.Position(file.Doc.Pos())] = file.Doc.Text()
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				f.declare(d)
				f.say(set, d.Doc)
			case *ast.GenDecl:
				f.say(set, d.Doc)
				for _, s := range d.Specs {
					f.specify(set, s)
				}
			}
		}
	}
	return f
}

func (f *folder) say(set *token.FileSet, c *ast.CommentGroup) {
	if c != nil {
		f.texts[set.Position(c.Pos())] = c.Text()
	}
}

func (f *folder) declare(d *ast.FuncDecl) {
	if d.Recv == nil {
		f.names[d.Name.Name] = true
		return
	}
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			f.names[id.Name+"."+d.Name.Name] = true
			return false
		}
		return true
	})
}

func (f *folder) specify(set *token.FileSet, s ast.Spec) {
	switch s := s.(type) {
	case *ast.ValueSpec:
		f.say(set, s.Doc)
		for _, n := range s.Names {
			f.names[n.Name] = true
		}
	case *ast.TypeSpec:
		f.say(set, s.Doc)
		f.names[s.Name.Name] = true
		var members *ast.FieldList
		switch t := s.Type.(type) {
		case *ast.StructType:
			members = t.Fields
		case *ast.InterfaceType:
			members = t.Methods
		default:
			return
		}
		for _, m := range members.List {
			f.say(set, m.Doc)
			for _, n := range m.Names {
				f.names[s.Name.Name+"."+n.Name] = true
			}
		}
	}
}

// TestReferences: what doc comments refer to in brackets is there, as far as it is in this module, and so are the files
// that they name.
func TestReferences(t *testing.T) {
	dirs := map[string]*folder{}
	named := map[string][]*folder{} // by the name of the package
	for _, p := range goList(t, "./...") {
		dir := filepath.Join("../..", strings.TrimPrefix(p.ImportPath, module))
		dirs[dir] = read(t, dir)
		named[dirs[dir].name] = append(named[dirs[dir].name], dirs[dir])
	}
	has := func(in []*folder, name, member string) bool {
		for _, f := range in {
			if f.names[name] && (member == "" || f.names[name+"."+member]) {
				return true
			}
		}
		return len(in) == 0 // of another module
	}
	seen := 0
	for dir, f := range dirs {
		for at, text := range f.texts {
			for _, m := range reference.FindAllStringSubmatch(text, -1) {
				if strings.ToUpper(m[2]) == m[2] { // a word of a usage, such as [IMAGE]
					continue
				}
				in := []*folder{f}
				if m[1] != "" {
					in = named[m[1]]
				}
				seen++
				if !has(in, m[2], m[3]) {
					t.Errorf("%s: %s is not there", at, m[0])
				}
			}
			for _, name := range regexp.MustCompile(`\bdocs/[a-z-]+\.md\b`).FindAllString(text, -1) {
				_, err := os.Stat(filepath.Join("../..", name))
				require.NoError(t, err, "%s", at)
			}
			for _, name := range regexp.MustCompile(`\b[a-z0-9_]+\.go\b`).FindAllString(text, -1) {
				_, here := os.Stat(filepath.Join(dir, name))
				found, err := filepath.Glob(filepath.Join("../..", "*", name))
				require.NoError(t, err)
				if here != nil && len(found) == 0 {
					t.Errorf("%s: there is no %s", at, name)
				}
			}
		}
	}
	require.Greater(t, seen, 50)
}
