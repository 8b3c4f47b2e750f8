package inventory

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultIPMITool is where the driver ipmi looks for its program.
const DefaultIPMITool = "/usr/bin/ipmitool"

// DefaultWOLPort is the UDP port of magic packets (discard).
const DefaultWOLPort = 9

// powerKeys are the keys of each driver besides driver, timeout and escalate.
func powerKeys() map[string][]string {
	password := []string{"user", "password", "password_file", "password_env"}
	return map[string][]string{
		PowerExec:    {"command"},
		PowerCMC:     {"form", "url", "domain"},
		PowerRedfish: append([]string{"url", "auth", "system", "fingerprint", "ca_file", "insecure", "bootdev"}, password...),
		PowerIPMI:    append([]string{"host", "program", "bootdev"}, password...),
		PowerWOL:     {"interface", "broadcast"},
	}
}

// written lists the keys that are in the file.
func (p *filePower) written() []string {
	var keys []string
	for _, k := range []struct {
		key   string
		there bool
	}{
		{"command", len(p.Command) > 0}, {"form", p.Form != ""}, {"url", p.URL != ""}, {"domain", p.Domain != ""},
		{"host", p.Host != ""}, {"user", p.User != ""}, {"password", p.Password != ""}, {"password_file", p.PasswordFile != ""},
		{"password_env", p.PasswordEnv != ""}, {"auth", p.Auth != ""}, {"system", p.System != ""},
		{"fingerprint", p.Fingerprint != ""}, {"ca_file", p.CAFile != ""}, {"insecure", p.Insecure}, {"bootdev", p.Bootdev != ""},
		{"program", p.Program != ""}, {"interface", p.Interface != ""}, {"broadcast", p.Broadcast != ""},
	} {
		if k.there {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// power checks the power of defaults, of a group or of a node.
func (c *checker) power(at []string, p *filePower) {
	c.oneOf(under(at, "driver"), p.Driver, PowerDrivers()...)
	if p.Timeout != nil {
		c.duration(under(at, "timeout"), *p.Timeout, time.Millisecond, maxAction)
	}
	c.duration(under(at, "escalate"), p.Escalate, 0, maxAction)
	if !slices.Contains(PowerDrivers(), p.Driver) {
		return
	}
	all := powerKeys()
	for _, key := range p.written() {
		if slices.Contains(all[p.Driver], key) {
			continue
		}
		var owners []string
		for _, d := range PowerDrivers() {
			if slices.Contains(all[d], key) {
				owners = append(owners, d)
			}
		}
		c.bad(under(at, key), "the power driver %s has no %s; it belongs to %s", p.Driver, key, strings.Join(owners, " and "))
	}
	if key, err := p.spec().Check(); err != nil {
		c.bad(under(at, key), "%v", err)
	}
}

// spec is what the file says, with what it does not say.
func (p *filePower) spec() Power {
	s := Power{
		Driver: p.Driver, Command: slices.Clone(p.Command), Timeout: defaultAction, Escalate: p.Escalate,
		Form: p.Form, URL: strings.TrimRight(p.URL, "/"), Domain: p.Domain, Host: p.Host,
		User: p.User, Password: p.Password, PasswordFile: p.PasswordFile, PasswordEnv: p.PasswordEnv,
		Auth: p.Auth, System: p.System, CAFile: p.CAFile, Insecure: p.Insecure,
		Fingerprint: strings.ToLower(strings.ReplaceAll(p.Fingerprint, ":", "")),
		Bootdev:     p.Bootdev, Program: p.Program, Interface: p.Interface, Broadcast: p.Broadcast,
	}
	if p.Timeout != nil {
		s.Timeout = *p.Timeout
	}
	return s.Filled()
}

// Filled returns the power with the defaults of its driver in place of what is
// empty.
func (p Power) Filled() Power {
	switch p.Driver {
	case PowerRedfish:
		p.Auth, p.Bootdev = cmp.Or(p.Auth, AuthBasic), cmp.Or(p.Bootdev, BootdevPXE)
	case PowerIPMI:
		p.Program, p.Bootdev = cmp.Or(p.Program, DefaultIPMITool), cmp.Or(p.Bootdev, BootdevPXE)
	}
	return p
}

// Check says what is wrong with what a driver is told, and under which key. It
// knows nothing of the nodes; see Targets for what depends on them.
func (p Power) Check() (key string, err error) {
	switch p.Driver {
	case PowerExec:
		return "command", CheckCommand(p.Command)
	case PowerCMC:
		return p.checkCMC()
	case PowerRedfish:
		return p.checkRedfish()
	case PowerIPMI:
		return p.checkIPMI()
	case PowerWOL:
		return p.checkWOL()
	}
	return "", nil
}

func (p Power) checkCMC() (string, error) {
	forms := []string{FormOrbit, FormOrbit5, FormCard}
	if !slices.Contains(forms, p.Form) {
		return "form", fmt.Errorf("form %q; write one of %s", clip(p.Form), strings.Join(forms, ", "))
	}
	if !plain(p.Domain) {
		return "domain", fmt.Errorf("domain %q; write the name that the service has for the testbed", clip(p.Domain))
	}
	if p.Domain != "" && p.Form == FormCard {
		return "domain", fmt.Errorf("a card at the node has no domain; it belongs to form %s and %s", FormOrbit, FormOrbit5)
	}
	example := "http://cmc:5012/cmc"
	if p.Form == FormCard {
		example = "http://reboot{digits}"
	}
	return "url", checkURL(p.URL, example, true)
}

// checkURL checks an address of HTTP; plainly says that http is fine.
func checkURL(text, example string, plainly bool) error {
	if text == "" {
		return fmt.Errorf("url is missing; write url: %q", example)
	}
	if err := checkTargets(text); err != nil {
		return err
	}
	u, err := url.Parse(targets.ReplaceAllString(text, "1"))
	switch {
	case len(text) > 1024 || !plain(text) || err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("url %q; write an address such as %q", clip(text), example)
	case u.User != nil:
		return fmt.Errorf("the url has a name or a password before its host; write user and password_file")
	case u.Scheme == "http" && !plainly:
		return fmt.Errorf("url %q has no encryption, so that the password could be read on the way; write https, or insecure: true", clip(text))
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("url %q: ports are 1 to 65535", clip(text))
		}
	}
	return nil
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

func (p Power) checkPassword() (string, error) {
	said := nonEmpty(p.Password, p.PasswordFile, p.PasswordEnv)
	switch {
	case p.User == "" || len(p.User) > 256 || !plain(p.User) || strings.HasPrefix(p.User, "-"):
		return "user", fmt.Errorf("user %q; write the name of an account of the controller", clip(p.User))
	case said == 0:
		return "password_file", fmt.Errorf("the password is missing; write password_file: /etc/loadnode/bmc.password or password_env: BMC_PASSWORD")
	case said > 1:
		return "password_file", fmt.Errorf("more than one password; write only one of password_file, password_env, password")
	case p.PasswordFile != "" && (!filepath.IsAbs(p.PasswordFile) || !plain(p.PasswordFile)):
		return "password_file", fmt.Errorf("password_file %q is not an absolute path", clip(p.PasswordFile))
	case p.PasswordEnv != "" && !envName.MatchString(p.PasswordEnv):
		return "password_env", fmt.Errorf("password_env %q is not the name of an environment variable", clip(p.PasswordEnv))
	case len(p.Password) > 256 || strings.ContainsAny(p.Password, "\x00\r\n"):
		return "password", fmt.Errorf("the password is longer than 256 bytes or has a line end")
	}
	return "", nil
}

func nonEmpty(words ...string) (n int) {
	for _, w := range words {
		if w != "" {
			n++
		}
	}
	return n
}

func (p Power) checkBootdev() error {
	if p.Bootdev != BootdevPXE && p.Bootdev != BootdevNone {
		return fmt.Errorf("bootdev %q; write one of %s, %s", clip(p.Bootdev), BootdevPXE, BootdevNone)
	}
	return nil
}

func (p Power) checkRedfish() (string, error) {
	if err := checkURL(p.URL, "https://bmc-{node}", p.Insecure); err != nil {
		return "url", err
	}
	if key, err := p.checkPassword(); err != nil {
		return key, err
	}
	if p.Auth != AuthBasic && p.Auth != AuthSession {
		return "auth", fmt.Errorf("auth %q; write one of %s, %s", clip(p.Auth), AuthBasic, AuthSession)
	}
	if err := checkTargets(p.System); err != nil {
		return "system", err
	}
	if s := p.System; s != "" && (len(s) > 1024 || !plain(s) || !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "?#%") || path.Clean(s) != s) {
		return "system", fmt.Errorf("system %q; write the path of a ComputerSystem, such as /redfish/v1/Systems/1", clip(s))
	}
	if p.Fingerprint != "" {
		if raw, err := hex.DecodeString(p.Fingerprint); err != nil || len(raw) != 32 {
			return "fingerprint", fmt.Errorf("fingerprint %q; write the SHA-256 of the certificate, 64 hexadecimal digits with or without colons", clip(p.Fingerprint))
		}
	}
	if p.CAFile != "" && (!filepath.IsAbs(p.CAFile) || !plain(p.CAFile)) {
		return "ca_file", fmt.Errorf("ca_file %q is not an absolute path", clip(p.CAFile))
	}
	trust := nonEmpty(p.Fingerprint, p.CAFile)
	if p.Insecure {
		trust++
	}
	if trust > 1 {
		return "fingerprint", fmt.Errorf("write only one of fingerprint, ca_file, insecure: true; without any the certificates of this system are used")
	}
	return "bootdev", p.checkBootdev()
}

var hostName = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z._-]{0,252}[0-9A-Za-z])?$`)

// SplitHost takes a host with or without a port apart; port is "" without one.
func SplitHost(host string) (name, port string, err error) {
	name = host
	if h, p, splitErr := net.SplitHostPort(host); splitErr == nil {
		name, port = h, p
	}
	_, ipErr := netip.ParseAddr(name)
	if ipErr != nil && !hostName.MatchString(name) {
		return "", "", fmt.Errorf("host %q; write a name or an address, with :PORT behind it or without", clip(host))
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return "", "", fmt.Errorf("host %q: ports are 1 to 65535", clip(host))
	}
	return name, port, nil
}

func (p Power) checkIPMI() (string, error) {
	if p.Host == "" {
		return "host", fmt.Errorf(`host is missing; write host: "bmc-{node}"`)
	}
	if err := checkTargets(p.Host); err != nil {
		return "host", err
	}
	if _, _, err := SplitHost(targets.ReplaceAllString(p.Host, "1")); err != nil {
		return "host", err
	}
	if key, err := p.checkPassword(); err != nil {
		return key, err
	}
	if !filepath.IsAbs(p.Program) || !plain(p.Program) {
		return "program", fmt.Errorf("program %q is not an absolute path; ipmitool is %s", clip(p.Program), DefaultIPMITool)
	}
	return "bootdev", p.checkBootdev()
}

var interfaceName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.@-]{0,14}$`)

func (p Power) checkWOL() (string, error) {
	if p.Interface != "" && !interfaceName.MatchString(p.Interface) {
		return "interface", fmt.Errorf("interface %q; write its name, such as eth1", clip(p.Interface))
	}
	if p.Broadcast != "" {
		if _, err := p.BroadcastAddr(); err != nil {
			return "broadcast", err
		}
	}
	return "", nil
}

// BroadcastAddr is where magic packets are sent to, if the file says so.
func (p Power) BroadcastAddr() (netip.AddrPort, error) {
	to, err := netip.ParseAddrPort(p.Broadcast)
	if err != nil {
		ip, ipErr := netip.ParseAddr(p.Broadcast)
		to, err = netip.AddrPortFrom(ip, DefaultWOLPort), ipErr
	}
	if err != nil || to.Addr().IsUnspecified() || to.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("broadcast %q; write the broadcast address of the nodes' network, such as 10.18.255.255 or 10.18.255.255:9", clip(p.Broadcast))
	}
	return to, nil
}

// Targets lists what stands for the node in url, host and system: {node} is
// its name, {digits} the digits at the end of the name, {x} and {y} its place
// in the grid, {ip} its control address.
func Targets() []string { return []string{"{node}", "{digits}", "{x}", "{y}", "{ip}"} }

var targets = regexp.MustCompile(`\{[a-z]+\}`)

func targetsOf(text string) []string { return targets.FindAllString(text, -1) }

func checkTargets(text string) error {
	for _, t := range placeholder.FindAllString(text, -1) {
		if !slices.Contains(Targets(), t) {
			return fmt.Errorf("%q uses %s; there are %s", clip(text), clip(t), strings.Join(Targets(), " "))
		}
	}
	return nil
}

// Expand puts a node into a text with Targets.
func Expand(text, node string, x, y int, ip string) string {
	return strings.NewReplacer("{node}", node, "{digits}", Digits(node), "{x}", strconv.Itoa(x), "{y}", strconv.Itoa(y), "{ip}", ip).Replace(text)
}

// Digits are those at the end of a node's name: 07 of fit07.
func Digits(name string) string { return name[len(strings.TrimRight(name, "0123456789")):] }

// nodePower checks what the power of a node needs to know of it.
func (c *checker) nodePower(at []string, n *Node) {
	p := n.Power
	known := map[string]bool{
		"{node}": true, "{digits}": Digits(n.Name) != "", "{x}": n.X > 0, "{y}": n.X > 0, "{ip}": n.IP.IsValid(), "{mac}": n.MAC != "",
	}
	for _, word := range p.Command {
		for _, missing := range []string{"{mac}", "{ip}"} {
			if !known[missing] && strings.Contains(word, missing) {
				c.bad(at, "the power command of %s uses %s, which is not known; add it to the node", n.Name, missing)
			}
		}
	}
	for _, word := range [][2]string{{"url", p.URL}, {"host", p.Host}, {"system", p.System}} {
		for _, t := range targetsOf(word[1]) {
			if !known[t] {
				c.bad(at, "%s of the power of %s uses %s, which is not known; give the node another %s", word[0], n.Name, t, word[0])
			}
		}
	}
	switch {
	case p.Driver == PowerWOL && n.MAC == "":
		c.bad(at, "the power driver wol needs the mac of %s; add it to the node", n.Name)
	case p.Driver == PowerCMC && p.Form == FormOrbit && n.X == 0:
		c.bad(at, "%s has no place in the grid, by which form: %s knows nodes; give it x and y, or another power driver", n.Name, FormOrbit)
	}
}

// ownController sees to it that no two nodes of a testbed are switched by one
// controller that stands for one machine.
func (c *checker) ownController(at []string, tb *Testbed) {
	seen := map[string]string{}
	for _, n := range tb.nodes {
		p := n.Power
		var where string
		switch {
		case p.Driver == PowerCMC && p.Form == FormCard:
			where = p.URL
		case p.Driver == PowerRedfish:
			where = p.URL + p.System
		case p.Driver == PowerIPMI:
			where = p.Host
		}
		if where == "" {
			continue
		}
		where = Expand(where, n.Name, n.X, n.Y, n.IP.String())
		if other, ok := seen[p.Driver+" "+where]; ok {
			c.bad(under(at, "nodes", n.Name), "%s and %s have the same power controller %s; use {node} in it, or write one for each node", other, n.Name, clip(where))
			return
		}
		seen[p.Driver+" "+where] = n.Name
	}
}
