package store

import "errors"

var errAbsent = errors.New("PostgreSQL is not supported yet")

func createPostgres(string, Meta, func(*Tx) error) error   { return errAbsent }
func openPostgres(string, Options) (Store, error)          { return nil, errAbsent }
func readPostgres(string, func(*Reader, Meta) error) error { return errAbsent }
func existsPostgres(string) (bool, error)                  { return false, errAbsent }
