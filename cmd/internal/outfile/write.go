package outfile

import "os"

// Write makes a whole file of data, or none.
func Write(path string, data []byte) error {
	f, err := New(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := os.WriteFile(f.Temp, data, 0o666); err != nil {
		return err
	}
	return f.Commit()
}
