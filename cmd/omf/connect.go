package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/config"
	"loadnode/events"
)

// connect connects a client command to the bus.
func (a *app) connect(ctx context.Context) (*bus.Conn, error) {
	var cred *events.Credential
	if file := a.get(config.KeyCredential); file != "" {
		c, err := readCredential(file)
		if err != nil {
			return nil, usagef("%w", err)
		}
		cred = c
	}
	return bus.Connect(ctx, bus.Config{URLs: a.servers(), Name: "omf " + who(), Credential: cred})
}

// maxCredential bounds a credential file, in bytes.
const maxCredential = 64 << 10

func readCredential(file string) (*events.Credential, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	var c events.Credential
	if len(b) > maxCredential {
		err = errors.New("file is too large")
	} else {
		err = json.Unmarshal(b, &c)
	}
	if err == nil && (c.User == "" || c.Password == "") {
		err = errors.New("want a JSON object with user and password")
	}
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", file, err)
	}
	return &c, nil
}

// who is the person at this machine, for the people who read job lists.
func who() string {
	name := "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		name += "@" + h
	}
	return name
}

// ask sends a request to a service of the testbed. That nobody answers is
// told in words, with what to do about it.
func ask(ctx context.Context, conn *bus.Conn, subject, service string, req, resp any) error {
	err := conn.Request(ctx, subject, req, resp)
	if errors.Is(err, bus.ErrNoResponders) {
		return &exit{
			code: exitUnreachable,
			err:  fmt.Errorf("no %s answers: %w", service, err),
			hint: "start one with omf serve, or name its testbed with --testbed",
		}
	}
	return err
}

func (a *app) askHandler(ctx context.Context, conn *bus.Conn, verb string, req, resp any) error {
	return ask(ctx, conn, events.HandlerSubject(a.testbed(), verb), fmt.Sprintf("handler of testbed %q", a.testbed()), req, resp)
}

func (a *app) askImages(ctx context.Context, conn *bus.Conn, verb string, req, resp any) error {
	return ask(ctx, conn, events.FrisbeeSubject(a.testbed(), verb), fmt.Sprintf("image service of testbed %q", a.testbed()), req, resp)
}

// client runs a client command with its connection.
func (a *app) client(ctx context.Context, do func(*bus.Conn) error) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(conn)
}
