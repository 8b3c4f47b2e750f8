package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// maxPersonalise bounds the file of --personalise, bytes.
const maxPersonalise = 256 << 10

// afterLoad is what is to be done on a disk once the image is on it.
type afterLoad struct {
	resize, omfResize string
	file              string // --personalise
	hostname          bool   // from the node
}

func (f *afterLoad) flags(fl *pflag.FlagSet) {
	fl.StringVar(&f.resize, "resize", "", "then make the last partition and its filesystem larger: max, a size such as 20G, or a share of the room such as 80%")
	fl.StringVarP(&f.omfResize, "omf-resize", "r", "", "the same as OMF 5 has it: 0 for all there is, N for N GB, N% to leave so much free")
	fl.StringVar(&f.file, "personalise", "", "then write into the loaded system what the file says: hostname, authorized_keys, seed, …")
	fl.BoolVar(&f.hostname, "hostname-from-node", false, "then give the loaded system the name of its node")
	for name, unit := range map[string]string{"resize": "SIZE", "omf-resize": "SIZE", "personalise": "FILE"} {
		placeholder(fl, name, unit)
	}
}

// fill writes the wishes into a request.
func (f *afterLoad) fill(r *events.LoadRequest) error {
	if f.omfResize != "" {
		if f.resize != "" {
			return usagef("--resize and -r are two forms of one thing: write one of them")
		}
		var err error
		if r.Resize, err = omfSize(f.omfResize); err != nil {
			return err
		}
	} else if f.resize != "" {
		if _, err := events.ParseResize(f.resize); err != nil {
			return usagef("--resize: %w", err)
		}
		r.Resize = f.resize
	}
	if f.file != "" {
		p, err := readPersonalise(f.file)
		if err != nil {
			return usagef("--personalise %s: %w", display.Clean(f.file), err)
		}
		r.Personalise = p
	}
	if f.hostname {
		if r.Personalise == nil {
			r.Personalise = &events.Personalise{}
		}
		if r.Personalise.Hostname != "" {
			return usagef("--hostname-from-node: %s has a hostname already", display.Clean(f.file))
		}
		r.Personalise.Hostname = events.NodePlace
	}
	if err := r.Personalise.Check(); err != nil {
		return usagef("%w", err)
	}
	return nil
}

// omfSize brings the size of OMF 5 (omf-legacy c.2) into ours: there a share is
// what stays free.
func omfSize(s string) (string, error) {
	number, share := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(number, 10, 24)
	switch {
	case err != nil || !digits(number), share && n > 99:
		return "", usagef("-r %q: want 0, a number of GB, or a share that stays free such as 20%%", s)
	case n == 0:
		return events.ResizeMax, nil
	case share:
		return fmt.Sprintf("%d%%", 100-n), nil
	}
	return fmt.Sprintf("%dG", n), nil
}

// readPersonalise reads a file with the keys of events.Personalise, in YAML.
// Keys that do not exist are errors.
func readPersonalise(path string) (*events.Personalise, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPersonalise+1))
	if err != nil {
		return nil, err
	}
	return parsePersonalise(text)
}

func parsePersonalise(text []byte) (*events.Personalise, error) {
	if len(text) > maxPersonalise {
		return nil, fmt.Errorf("it has more than %d bytes", maxPersonalise)
	}
	var any map[string]any
	if err := yaml.Unmarshal(text, &any); err != nil {
		return nil, err
	}
	if len(any) == 0 {
		return nil, errors.New("it says nothing; keys are hostname, reset_machine_id, remove_host_keys, authorized_keys, user and seed")
	}
	data, err := json.Marshal(any)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var p events.Personalise
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("%s; keys are hostname, reset_machine_id, remove_host_keys, authorized_keys, user and seed (meta_data, user_data, network_config)",
			strings.TrimPrefix(err.Error(), "json: "))
	}
	return &p, nil
}
