package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// ErrUnavailable is wrapped when this machine, or this user, cannot have
// network namespaces; the message says what is missing.
var ErrUnavailable = errors.New("no network namespaces here")

// MaxHosts is how many hosts a network can have.
const MaxHosts = 64

// Network is a switch and its hosts.
type Network struct {
	// Hosts have the addresses 10.77.0.1 and up, in order.
	Hosts []*Host

	name  string // what the names of all its namespaces begin with
	tools tools
}

// Host is one machine on the network.
type Host struct {
	Addr netip.Addr

	space string
	tools tools
}

// tools are the programs that are used.
type tools struct{ ip, nft, bash string }

// switchSpace is the end of the name of the namespace in which the bridge is.
const switchSpace = "switch"

// New makes a network of n hosts, 2 to MaxHosts, and returns when its switch
// forwards multicast only to those who have asked for it.
func New(ctx context.Context, n int) (*Network, error) {
	if n < 2 || n > MaxHosts {
		return nil, fmt.Errorf("a network of %d hosts: 2 to %d are possible", n, MaxHosts)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: they need root", ErrUnavailable)
	}
	t, err := find()
	if err != nil {
		return nil, err
	}
	if err := sweep(ctx, t); err != nil {
		return nil, err
	}
	net := &Network{name: fmt.Sprintf("%s%d-%d-", prefix, os.Getpid(), time.Now().UnixNano()%1e6), tools: t}
	if err := net.build(ctx, n); err != nil {
		return nil, errors.Join(err, net.Close())
	}
	return net, nil
}

// find looks for the programs, also where root's path has them.
func find() (tools, error) {
	look := func(name string) string {
		for _, dir := range append(strings.Split(os.Getenv("PATH"), ":"), "/usr/sbin", "/sbin") {
			if p, err := exec.LookPath(dir + "/" + name); err == nil {
				return p
			}
		}
		return ""
	}
	t := tools{ip: look("ip"), nft: look("nft"), bash: look("bash")}
	for name, p := range map[string]string{"ip": t.ip, "bash": t.bash} {
		if p == "" {
			return t, fmt.Errorf("%w: there is no program %s (packages iproute2, bash)", ErrUnavailable, name)
		}
	}
	return t, nil
}

// output runs a program with something to read.
func output(ctx context.Context, input, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(diag.Bytes()))
	}
	return out.Bytes(), nil
}

func (n *Network) build(ctx context.Context, hosts int) error {
	sw := n.name + switchSpace
	if _, err := output(ctx, "", n.tools.ip, "netns", "add", sw); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// A querier counts only after its own maximum response time, and who has left is asked for once more; the
	// shortest times let the lab begin at once.
	if _, err := output(ctx, `link add name br0 type bridge stp_state 0 mcast_snooping 1 mcast_query_response_interval 10 mcast_last_member_interval 10
link set dev br0 up
link set dev br0 type bridge mcast_querier 1
`, n.tools.ip, "-n", sw, "-batch", "-"); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for i := range hosts {
		h := &Host{Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), space: fmt.Sprintf("%sh%d", n.name, i), tools: n.tools}
		if _, err := output(ctx, "", n.tools.ip, "netns", "add", h.space); err != nil {
			return err
		}
		n.Hosts = append(n.Hosts, h)
		port := fmt.Sprintf("p%d", i)
		if _, err := output(ctx, fmt.Sprintf("link add name %s type veth peer name eth0 netns %s\nlink set dev %s master br0 up\n", port, h.space, port),
			n.tools.ip, "-n", sw, "-batch", "-"); err != nil {
			return err
		}
		if _, err := output(ctx, fmt.Sprintf("link set dev lo up\naddr add %v/24 dev eth0\nlink set dev eth0 up\nroute add 224.0.0.0/4 dev eth0\n", h.Addr),
			n.tools.ip, "-n", h.space, "-batch", "-"); err != nil {
			return err
		}
	}
	return n.settle(ctx)
}

// settle waits until what nobody asked for reaches nobody.
func (n *Network) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		heard, err := n.Hosts[1].Hears(ctx, n.Hosts[0], netip.AddrFrom4([4]byte{239, 77, 255, 1}))
		if err != nil {
			return fmt.Errorf("wait for the switch to snoop: %w", err)
		}
		if !heard {
			return nil
		}
	}
}

// Deliver makes one processor take in what a host sends: it does the work of
// switch and receivers, which otherwise the sender's processor does in the
// sender's name, since here a cable is a function call. -1 ends that.
func (n *Network) Deliver(ctx context.Context, host, processor int) error {
	var mask uint64
	if processor >= 0 {
		mask = 1 << processor
	}
	script := fmt.Sprintf("for q in /sys/class/net/p%d/queues/rx-*; do echo %x >$q/rps_cpus || exit 1; done", host, mask)
	_, err := output(ctx, "", n.tools.ip, "netns", "exec", n.name+switchSpace, n.tools.bash, "-c", script)
	return err
}

// Close ends what still runs on the hosts and removes everything.
func (n *Network) Close() error {
	return remove(context.Background(), n.tools, n.name)
}
