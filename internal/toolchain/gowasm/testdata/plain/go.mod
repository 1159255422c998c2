module hachi.test/plain

go 1.24
