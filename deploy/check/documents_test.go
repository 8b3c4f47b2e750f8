package check

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	link    = regexp.MustCompile(`\[[^]]+\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	code    = regexp.MustCompile("`([^`\n]+)`")
	block   = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
)

// anchors are the names of a document's headings, as forges make them.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all[strings.ReplaceAll(name, " ", "-")] = true
	}
	return all
}

// TestDocuments: links in README and docs lead somewhere, README names every document, and the files, folders and
// targets of make that they name are there.
func TestDocuments(t *testing.T) {
	const root = "../.."
	docs, err := filepath.Glob(root + "/docs/*.md")
	require.NoError(t, err)
	require.Greater(t, len(docs), 5)
	makefile, err := os.ReadFile(root + "/Makefile")
	require.NoError(t, err)
	index := map[string]bool{}
	for _, doc := range append(docs, root+"/README.md") {
		b, err := os.ReadFile(doc)
		require.NoError(t, err)
		text, name := string(b), filepath.Base(doc)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := doc
			if path != "" {
				target = filepath.Join(filepath.Dir(doc), path)
			}
			b, err := os.ReadFile(target)
			require.NoError(t, err, "%s: a link leads to %s", name, m[1])
			require.True(t, anchor == "" || anchors(string(b))[anchor], "%s: there is no heading %s", name, m[1])
			if name == "README.md" {
				index[target] = true
			}
		}
		for _, m := range code.FindAllStringSubmatch(text, -1) {
			for path := range strings.FieldsSeq(m[1]) {
				path = strings.TrimPrefix(path, "./")
				if ours := regexp.MustCompile(`^(agent|bus|cmd|deploy|docs|events|frisbeesvc|handler|internal|transfer)/[a-z0-9_./-]*$`); ours.MatchString(path) {
					_, err := os.Stat(filepath.Join(root, strings.TrimSuffix(path, "/...")))
					require.NoError(t, err, "%s: %s", name, m[1])
				}
			}
		}
		for _, m := range regexp.MustCompile("(?m)(?:^|`|   )make ([a-z][a-z0-9-]*)").FindAllStringSubmatch(text, -1) {
			require.Regexp(t, `(?m)^`+m[1]+`:`, string(makefile), "%s: make %s", name, m[1])
		}
	}
	for _, doc := range docs {
		require.True(t, index[doc], "README.md does not lead to docs/%s", filepath.Base(doc))
	}
}

// TestDocumentedBenchmarks: what docs tell to run by go test runs something.
func TestDocumentedBenchmarks(t *testing.T) {
	b, err := os.ReadFile("../../docs/performance.md")
	require.NoError(t, err)
	seen := 0
	for _, m := range regexp.MustCompile("-(run|bench) (?:'([^']+)'|([A-Za-z]+)) ([./a-z]+[a-z])[`)]").FindAllStringSubmatch(string(b), -1) {
		pattern, err := regexp.Compile(m[2] + m[3])
		require.NoError(t, err)
		files, err := filepath.Glob(filepath.Join("../..", m[4], "*_test.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, m[0])
		kind := map[string]string{"run": "Test", "bench": "Benchmark"}[m[1]]
		for choice := range strings.SplitSeq(pattern.String(), "|") {
			there := regexp.MustCompile(`(?m)^func ` + kind + `\w*` + choice + `\w*\(`)
			require.True(t, slices.ContainsFunc(files, func(name string) bool {
				src, err := os.ReadFile(name)
				return err == nil && there.Match(src)
			}), "%s: no %s is called like %s", m[0], kind, choice)
			seen++
		}
	}
	require.Greater(t, seen, 10)
}

// TestFoldersOfArchitecture: what the table of folders names is there, and every package lies in a folder that it names.
func TestFoldersOfArchitecture(t *testing.T) {
	b, err := os.ReadFile("../../docs/architecture.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(b), "\n| folder | what |\n|---|---|\n")
	require.True(t, ok)
	var named []string
	there := func(path string) {
		_, err := os.Stat(filepath.Join("../..", path))
		require.NoError(t, err, "docs/architecture.md names %s", path)
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			break
		}
		folders := code.FindAllStringSubmatch(cells[1], -1)
		require.NotEmpty(t, folders, line)
		first := folders[0][1] // the others lie beside it, and those of the second cell in it
		for i, m := range folders {
			path := first
			if i > 0 {
				path = filepath.Join(filepath.Dir(first), m[1])
			}
			there(path)
			named = append(named, path)
		}
		for _, m := range code.FindAllStringSubmatch(cells[2], -1) {
			there(filepath.Join(first, m[1]))
		}
	}
	require.Greater(t, len(named), 15)
	for _, p := range goList(t, "./...") {
		own := strings.TrimPrefix(p.ImportPath, module+"/")
		if !slices.ContainsFunc(named, func(n string) bool { return below(own, n) }) {
			t.Errorf("docs/architecture.md has no place for %s", own)
		}
	}
}
