package initramfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel's network is set up by messages on a netlink socket: a header, a
// fixed part for each kind, and attributes (RFC 3549).

// linkUp switches an interface on.
func linkUp(index int) error {
	m := message{kind: unix.RTM_NEWLINK}
	m.u8(unix.AF_UNSPEC, 0)
	m.u16(0)
	m.u32(uint32(index), unix.IFF_UP, unix.IFF_UP)
	return m.send("switch the interface on")
}

// setMTU sets the largest packet of an interface, bytes.
func setMTU(index int, mtu uint32) error {
	m := message{kind: unix.RTM_NEWLINK}
	m.u8(unix.AF_UNSPEC, 0)
	m.u16(0)
	m.u32(uint32(index), 0, 0)
	m.attr(unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, mtu))
	return m.send("set the largest packet")
}

// addAddress gives an interface an IPv4 address.
func addAddress(index int, a netip.Prefix) error {
	m := message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE}
	m.u8(unix.AF_INET, byte(a.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	m.u32(uint32(index))
	m.attr(unix.IFA_LOCAL, a.Addr().AsSlice())
	m.attr(unix.IFA_ADDRESS, a.Addr().AsSlice())
	if a.Bits() < 31 {
		broadcast := a.Masked().Addr().As4()
		host := binary.BigEndian.Uint32(broadcast[:]) | 1<<(32-a.Bits()) - 1
		m.attr(unix.IFA_BROADCAST, binary.BigEndian.AppendUint32(nil, host))
	}
	return m.send(fmt.Sprintf("set the address %v", a))
}

// addRoute sends packets for a network to an interface; via the gateway if
// that is valid.
func addRoute(index int, to netip.Prefix, gateway netip.Addr) error {
	m := message{kind: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE}
	scope := byte(unix.RT_SCOPE_LINK)
	if gateway.IsValid() {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	m.u8(unix.AF_INET, byte(to.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST)
	m.u32(0)
	m.attr(unix.RTA_DST, to.Addr().AsSlice())
	m.attr(unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index)))
	if gateway.IsValid() {
		m.attr(unix.RTA_GATEWAY, gateway.AsSlice())
	}
	return m.send(fmt.Sprintf("add the route to %v", to))
}

// message is one request, without its header.
type message struct {
	kind, flags uint16
	body        []byte
}

func (m *message) u8(v ...byte) { m.body = append(m.body, v...) }

func (m *message) u16(v uint16) { m.body = binary.NativeEndian.AppendUint16(m.body, v) }

func (m *message) u32(v ...uint32) {
	for _, x := range v {
		m.body = binary.NativeEndian.AppendUint32(m.body, x)
	}
}

func (m *message) attr(kind uint16, value []byte) {
	m.u16(uint16(4 + len(value)))
	m.u16(kind)
	m.body = append(m.body, value...)
	for len(m.body)%4 != 0 {
		m.body = append(m.body, 0)
	}
}

// send has the kernel do it and waits for its answer.
func (m *message) send(what string) error {
	if err := m.exchange(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (m *message) exchange() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	packet := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(m.body)))
	packet = binary.NativeEndian.AppendUint16(packet, m.kind)
	packet = binary.NativeEndian.AppendUint16(packet, m.flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	packet = binary.NativeEndian.AppendUint32(packet, 1) // sequence
	packet = binary.NativeEndian.AppendUint32(packet, 0) // from the kernel's view: whoever
	packet = append(packet, m.body...)
	if err := unix.Sendto(fd, packet, 0, kernel); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	var buf [4096]byte
	for {
		n, _, err := unix.Recvfrom(fd, buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		return answer(buf[:n])
	}
}

// answer reads the kernel's verdict on a request.
func answer(packet []byte) error {
	if len(packet) < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(packet[4:]) != unix.NLMSG_ERROR {
		return errors.New("unexpected answer of the kernel")
	}
	if code := int32(binary.NativeEndian.Uint32(packet[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
