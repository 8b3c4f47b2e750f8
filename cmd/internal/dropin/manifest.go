package dropin

import (
	"fmt"
	"os"

	"loadnode/transfer/ndz"
)

// Manifest reads the file of option --manifest.
func Manifest(path string) (*ndz.Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := ndz.DecodeManifest(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}
