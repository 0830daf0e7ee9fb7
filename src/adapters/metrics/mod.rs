pub mod alertmanager;
