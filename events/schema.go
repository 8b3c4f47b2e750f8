package events

import (
	"embed"
	"io/fs"
)

//go:embed schema asyncapi.yaml
var documents embed.FS

// Schema returns the JSON schema (draft 2020-12) of the data of a kind; ok is
// false for kinds outside this vocabulary. The schemas are generated from the
// structs: go test ./events -update.
func Schema(k Kind) (text []byte, ok bool) {
	if _, ok := newData(k); !ok {
		return nil, false
	}
	text, err := documents.ReadFile("schema/" + string(k) + ".json")
	return text, err == nil
}

// Schemas holds all schemas, to be served: "<kind>.json" for the data of
// events, "payload/<Struct>.json" for requests to agents and services and
// their answers.
func Schemas() fs.FS {
	sub, err := fs.Sub(documents, "schema")
	if err != nil {
		return documents // not reached: the directory is embedded above
	}
	return sub
}

// AsyncAPI returns the AsyncAPI 3.0 document of every channel, as YAML.
func AsyncAPI() []byte {
	text, err := documents.ReadFile("asyncapi.yaml")
	if err != nil {
		return nil // not reached: the file is embedded above
	}
	return text
}
