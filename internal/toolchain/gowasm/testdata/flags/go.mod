module hachi.test/flags

go 1.24
