package migrate

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"loadnode/cmd/omf/internal/config"
	"loadnode/handler/inventory"
	"loadnode/handler/netboot/pxelinux"
)

// setting is what a file says of one of our settings.
type setting struct {
	testbed   string // "": of the whole service
	key, text string
	note      string
	entry     Entry
}

// rule says what becomes of a key of OMF.
type rule struct {
	key     string // of our settings; "" none
	convert func(string) (string, error)
	why     string // it is left out, or what to know about it
}

const (
	whyBuiltIn = "loadnode brings this itself"
	whySave    = "saved images go where all images are; serve.save_port is the first port of those that come by netcat"
	whyPower   = "power is a driver of each node in the inventory: power: {driver: cmc, form: orbit, url: http://HOST:5012/cmc} or another"
	whyURL     = "the services find each other on the bus"
	whySQL     = "the inventory is a file, not a database"
)

// rules are the keys of omf-legacy b, by service.
func rules() map[string]map[string]rule {
	return map[string]map[string]rule{
		"frisbee": {
			"imageDir":     {key: config.KeyImages, convert: directory},
			"bandwidth":    {key: config.KeyRate, convert: rate, why: "counted on the wire, headers included"},
			"mcAddress":    {key: config.KeyGroup, convert: group, why: "the first group; each session has its own unless serve.one_group is on"},
			"startPort":    {key: config.KeyPort, convert: port},
			"timeout":      {key: config.KeyIdle, convert: seconds, why: "counts from the last client on, so it no longer cuts a load"},
			"multicastIF":  {key: config.KeyInterface, convert: address},
			"maxDaemons":   {why: "there is no such limit: sessions share the rate of the link (serve.link_rate) and end when idle"},
			"defaultImage": {why: "a load without an image is refused"},
			"frisbeeBin":   {why: whyBuiltIn}, "ncBin": {why: whyBuiltIn}, "inventory_url": {why: whyURL},
		},
		"saveimage": {
			"imageDir": {why: whySave}, "saveimageIF": {why: whySave}, "startPort": {key: config.KeySavePort, convert: port}, "timeout": {why: whySave},
			"maxDaemons": {why: whySave}, "ncBin": {why: whyBuiltIn}, "owner": {why: whySave},
		},
		"pxe": {
			"cfgDir":        {key: config.KeyPxelinux, convert: directory, why: "the nodes of the testbed get boot: {driver: pxelinux}"},
			"defImage":      {key: config.KeyPxeImage, convert: bootImage},
			"linkLifetime":  {key: config.KeyPxeLifetime, convert: seconds, why: "of links that are set by hand; those of jobs end with what they are for"},
			"inventory_url": {why: whyURL},
		},
		"cmc":       {"inventory_url": {why: whyURL}, "*": {why: whyPower}},
		"inventory": {"host": {why: whySQL}, "user": {why: whySQL}, "password": {why: whySQL}, "database": {why: whySQL}},
	}
}

// services reads the YAML of one or more of OMF's services.
func (im *importer) services(f File) error {
	root, err := document(f.Name, f.Text)
	if err != nil {
		return err
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%w: %s:%d: want services with their keys, a topology or rhubarbe's inventory", ErrInput, f.Name, root.Line)
	}
	known := rules()
	base := strings.TrimSuffix(filepath.Base(f.Name), filepath.Ext(f.Name))
	return each(root, func(key string, k, v *yaml.Node) error {
		switch {
		case key == "testbed" && v.Kind == yaml.MappingNode:
			return im.service(f, base, key, k, v) // a file without the name of its service
		case known[key] != nil && v.Kind == yaml.MappingNode:
			return each(v, func(below string, k, v *yaml.Node) error { return im.service(f, key, below, k, v) })
		}
		im.leave(Entry{File: f.Name, Line: k.Line, What: clip(key), Value: secret(key, show(v))}, "no service of imaging is called so; there are frisbee, saveimage, pxe, cmc, inventory")
		return nil
	})
}

// service reads one key of a service: a value, or the sections of testbeds.
func (im *importer) service(f File, service, key string, k, v *yaml.Node) error {
	if key != "testbed" || v.Kind != yaml.MappingNode {
		im.value(f, service, "", key, k, v)
		return nil
	}
	return each(v, func(testbed string, k, section *yaml.Node) error {
		if section.Kind != yaml.MappingNode {
			im.leave(Entry{File: f.Name, Line: k.Line, What: clip(service + ".testbed." + testbed), Value: show(section)}, "want the keys of a testbed")
			return nil
		}
		return each(section, func(key string, k, v *yaml.Node) error {
			im.value(f, service, testbed, key, k, v)
			return nil
		})
	})
}

// value reads one key with its value.
func (im *importer) value(f File, service, testbed, key string, k, v *yaml.Node) {
	e := Entry{File: f.Name, Line: k.Line, What: clip(strings.Join(nonEmpty(service, testbed, key), ".")), Value: secret(key, show(v))}
	if v.Kind == yaml.ScalarNode && im.place(e, testbed, key, v.Value) {
		return
	}
	all := rules()[service]
	r, ok := all[key]
	if !ok {
		r, ok = all["*"]
	}
	switch {
	case !ok:
		im.leave(e, "this key is not known")
	case r.key == "":
		im.leave(e, r.why)
	case v.Kind != yaml.ScalarNode || v.Value == "" || v.ShortTag() == "!!null":
		im.leave(e, "want one value")
	default:
		text, err := r.convert(v.Value)
		if err != nil {
			im.leave(e, err.Error())
			return
		}
		im.found = append(im.found, setting{testbed: testbed, key: r.key, text: text, note: r.why, entry: e})
	}
}

// place takes what OMF's inventory says of a testbed, in whichever service.
func (im *importer) place(e Entry, testbed, key, text string) bool {
	switch key {
	case "x_max", "y_max", "frisbee_default_disk", "cmc_url":
	default:
		return false
	}
	if testbed == "" {
		testbed = inventory.DefaultTestbed
	}
	b := im.bed(testbed)
	if key == "cmc_url" {
		p := inventory.Power{Driver: inventory.PowerCMC, Form: inventory.FormOrbit, URL: text}
		if _, err := p.Check(); err != nil {
			im.leave(e, err.Error())
			return true
		}
		b.power = fmt.Sprintf("{driver: cmc, form: orbit, url: %s}", strconv.QuoteToASCII(text))
	} else if key == "frisbee_default_disk" {
		if !strings.HasPrefix(text, "/dev/") || !printable(text) {
			im.leave(e, "want a disk such as /dev/hda")
			return true
		}
		b.disk = text
	} else {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > inventory.MaxNodes {
			im.leave(e, "want the size of a grid")
			return true
		}
		if key == "x_max" {
			b.columns = n
		} else {
			b.rows = n
		}
	}
	b.legacy = true
	im.take(e, "inventory: testbed "+clip(testbed), "")
	return true
}

// secret hides what reports must not show.
func secret(key, value string) string {
	if strings.Contains(strings.ToLower(key), "passw") {
		return "(hidden)"
	}
	return value
}

func nonEmpty(words ...string) []string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

func printable(s string) bool {
	return len(s) <= 256 && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
}

func directory(s string) (string, error) {
	if !filepath.IsAbs(s) || !printable(s) {
		return "", errors.New("want an absolute path")
	}
	return filepath.Clean(s), nil
}

func bootImage(s string) (string, error) {
	return s, pxelinux.CheckImage(s)
}

func rate(s string) (string, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 8000 || n > 1e12 {
		return "", errors.New("want bits per second, from 8000 on")
	}
	return strconv.FormatInt(n, 10), nil
}

func port(s string) (string, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("want a port, 1 to 65535")
	}
	return strconv.FormatUint(n, 10), nil
}

func seconds(s string) (string, error) {
	n, err := strconv.ParseUint(s, 10, 22)
	if err != nil || n == 0 {
		return "", errors.New("want seconds, 1 to 4194303")
	}
	return (time.Duration(n) * time.Second).String(), nil
}

func address(s string) (string, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || !ip.Is4() || ip.IsMulticast() || ip.IsUnspecified() {
		return "", errors.New("want the IPv4 address of an interface; write serve.interface by hand")
	}
	return ip.String(), nil
}

// group refuses what OMF's delivered files have: 224.0.0.2 means all routers,
// and switches flood 224.0.0.0/24 to every port.
func group(s string) (string, error) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil || !ip.Is4() || !ip.IsMulticast():
		return "", errors.New("want an IPv4 multicast address")
	case ip.IsLinkLocalMulticast():
		return "", errors.New("224.0.0.0/24 belongs to routers and is flooded to every port; the default, 239.192.77.0, is not")
	}
	return ip.String(), nil
}
